//! Questions to the hotels, and what must come: worked out from the town as it was
//! drawn, by other ways than the functions go. Nothing here is read from `data/`, and
//! no code is shared with the functions.

use crate::SECRETS;
use crate::data::{Hotel, MIDDLE, Numbers, Town, hmac};
use serde_json::{Value, json};

/// Something that a page is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    page: &'static str,
    /// Millionths of a degree.
    place: (i64, i64),
    /// Days from the first of January 2027.
    first: i64,
    nights: i64,
    guests: u32,
    by: &'static str,
    hotel: u32,
    name: String,
    password: String,
}

/// What must come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// This.
    Json(Value),
    /// This.
    Text(String),
    /// An error with this status.
    Error(u16),
}

impl Expected {
    /// Whether it has come.
    pub fn is(&self, status: u16, body: &[u8]) -> bool {
        match self {
            Self::Json(value) => {
                status == 200 && serde_json::from_slice(body).is_ok_and(|v: Value| v == *value)
            }
            Self::Text(text) => status == 200 && body == text.as_bytes(),
            Self::Error(code) => status == *code,
        }
    }
}

impl Question {
    /// One of every kind in turn, wrong ones among them.
    pub fn draw(town: &Town, number: usize, numbers: &mut Numbers) -> Self {
        const PAGES: [&str; 6] = [
            "search",
            "recommend",
            "search",
            "reserve",
            "reviews",
            "reserve",
        ];
        let user = numbers.one(&town.users);
        let mut question = Self {
            page: PAGES[number % PAGES.len()],
            place: (
                MIDDLE.0 + numbers.around(200_000),
                MIDDLE.1 + numbers.around(300_000),
            ),
            first: numbers.between(45, 240),
            nights: numbers.between(1, 15),
            guests: numbers.between(1, 5) as u32,
            by: numbers.one(&["price", "distance", "score"]),
            hotel: numbers.one(&town.hotels).id,
            name: user.name,
            password: user.password,
        };
        match number % 37 {
            5 => question.password += "?",
            11 => question.name = "nobody & sons".into(),
            12 => question.nights = 0,
            19 => question.by = "colour",
            21 => question.hotel = 4_000,
            31 => question.page = "dinner",
            _ => {}
        }
        question
    }

    /// A search for a stay, near the middle of the town: the answer has hotels in it.
    pub fn search(numbers: &mut Numbers) -> Self {
        Self {
            page: "search",
            place: (
                MIDDLE.0 + numbers.around(60_000),
                MIDDLE.1 + numbers.around(90_000),
            ),
            first: numbers.between(45, 240),
            nights: numbers.between(1, 8),
            guests: numbers.between(1, 3) as u32,
            by: "price",
            hotel: 1,
            name: String::new(),
            password: String::new(),
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("page", self.page.to_owned()),
            ("lat", format!("{:.6}", self.place.0 as f64 / 1e6)),
            ("lon", format!("{:.6}", self.place.1 as f64 / 1e6)),
            ("in", date(self.first)),
            ("out", date(self.first + self.nights)),
            ("guests", self.guests.to_string()),
            ("by", self.by.to_owned()),
            ("hotel", self.hotel.to_string()),
            ("name", self.name.clone()),
            ("password", self.password.clone()),
        ]
    }

    /// As the page of the workflow `hotel` is asked.
    pub fn form(&self) -> String {
        let encoded = |text: String| -> String {
            let each = text.bytes().map(|b| match b {
                b' ' => "+".to_owned(),
                b'.' | b'-' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            });
            each.collect()
        };
        let fields = self.fields().into_iter();
        let all: Vec<String> = fields.map(|(n, v)| format!("{n}={}", encoded(v))).collect();
        all.join("&")
    }

    /// As the workflow `search` is asked.
    pub fn lines(&self) -> String {
        let fields = self.fields().into_iter();
        fields.map(|(n, v)| format!("{n}={v}\n")).collect()
    }

    /// What must come of it.
    pub fn expected(&self, town: &Town) -> Expected {
        let stays = self.nights >= 1;
        match self.page {
            "search" | "recommend" | "reserve" if !stays => Expected::Error(400),
            "search" => self.searched(town),
            "recommend" if !["price", "distance", "score"].contains(&self.by) => {
                Expected::Error(400)
            }
            "recommend" => self.recommended(town),
            "reserve" => self.reserved(town),
            "reviews" => Expected::Text(town.hotel(self.hotel).map_or(String::new(), reviews)),
            _ => Expected::Error(404),
        }
    }

    /// The ten best of the twenty nearest, each with its metres and its price.
    fn near<'t>(&self, town: &'t Town) -> Vec<(&'t Hotel, i64, i64)> {
        let mut all: Vec<(i64, &Hotel)> = town
            .hotels
            .iter()
            .map(|h| (self.square_to(h), h))
            .filter(|(square, _)| *square <= 1_000_000 * 1_000_000)
            .collect();
        all.sort_by_key(|(square, h)| (*square, h.id));
        all.truncate(20);
        let mut offers: Vec<_> = all
            .into_iter()
            .filter_map(|(square, h)| {
                let metres = (square as f64).sqrt() as i64 / 100;
                Some((h, metres, self.price(h)?))
            })
            .collect();
        offers.sort_by_key(|(h, metres, cents)| (cents + 2 * metres, h.id));
        offers.truncate(10);
        offers
    }

    /// The square of the distance, in centimetres.
    fn square_to(&self, hotel: &Hotel) -> i64 {
        let north = (hotel.lat - self.place.0) * 111_195 / 10_000;
        let east = (hotel.lon - self.place.1) * 67_887 / 10_000;
        north * north + east * east
    }

    fn price(&self, hotel: &Hotel) -> Option<i64> {
        let fit = hotel.plans.iter().filter(|p| p.guests >= self.guests);
        let sums = fit.map(|plan| {
            let nights = (self.first..self.first + self.nights).map(|day| {
                // June to August; Fridays and Saturdays, the first of which is day 0.
                let summer = if (151..=242).contains(&day) { 120 } else { 100 };
                let weekend = if matches!(day % 7, 0 | 1) {
                    plan.weekend
                } else {
                    0
                };
                plan.cents * summer / 100 * (100 + weekend) / 100
            });
            nights.sum()
        });
        sums.min()
    }

    /// How many rooms are free every night.
    fn rooms(&self, hotel: &Hotel) -> i64 {
        let taken = |day: i64| -> i64 {
            let there = |b: &&crate::data::Booking| (b.first..b.first + b.nights).contains(&day);
            let bookings = hotel.bookings.iter().filter(there);
            bookings.map(|b| i64::from(b.rooms)).sum()
        };
        let days = self.first..self.first + self.nights;
        let most = days.map(taken).max().unwrap_or(0);
        i64::from(hotel.rooms) - most
    }

    fn searched(&self, town: &Town) -> Expected {
        let near = self.near(town).into_iter();
        let free = near.filter(|(h, ..)| self.rooms(h) > 0);
        let hotels: Vec<Value> = free
            .take(5)
            .map(|(h, metres, cents)| {
                json!({
                    "id": h.id, "name": h.name, "street": h.street, "stars": h.stars,
                    "metres": metres, "price": cents, "rooms": self.rooms(h),
                })
            })
            .collect();
        Expected::Json(json!({ "nights": self.nights, "hotels": hotels }))
    }

    fn recommended(&self, town: &Town) -> Expected {
        let mut near = self.near(town);
        near.sort_by_key(|(h, metres, cents)| {
            let key = match self.by {
                "price" => *cents,
                "distance" => *metres,
                _ => -score(h),
            };
            (key, h.id)
        });
        let hotels = near.into_iter().take(3).map(|(h, metres, cents)| {
            json!({
                "id": h.id, "name": h.name, "stars": h.stars, "metres": metres,
                "price": cents, "score": score(h),
            })
        });
        let hotels: Vec<Value> = hotels.collect();
        Expected::Json(json!({ "by": self.by, "hotels": hotels }))
    }

    fn reserved(&self, town: &Town) -> Expected {
        let known = |u: &&crate::data::User| u.name == self.name && u.password == self.password;
        if town.users.iter().filter(known).count() == 0 {
            return Expected::Error(401);
        }
        let hotel = town.hotel(self.hotel);
        let free = hotel.filter(|h| self.rooms(h) > 0);
        let Some(price) = free.and_then(|h| self.price(h)) else {
            return Expected::Error(409);
        };
        let (name, hotel) = (&self.name, self.hotel);
        let (first, nights, guests) = (self.first, self.nights, self.guests);
        let vouched = format!("{name} {hotel} {first} {nights} {guests} {price}");
        Expected::Json(json!({
            "guest": name, "hotel": hotel, "price": price,
            "voucher": hmac(SECRETS[0].1, vouched.as_bytes()),
        }))
    }
}

impl Town {
    fn hotel(&self, id: u32) -> Option<&Hotel> {
        self.hotels.iter().find(|h| h.id == id)
    }
}

/// The mean of the scores in tenths; 0 without any.
fn score(hotel: &Hotel) -> i64 {
    let sum: u32 = hotel.reviews.iter().map(|r| r.score).sum();
    (i64::from(sum) * 10)
        .checked_div(hotel.reviews.len() as i64)
        .unwrap_or(0)
}

fn reviews(hotel: &Hotel) -> String {
    let Some(newest) = hotel.reviews.last() else {
        return String::new();
    };
    let (id, count) = (hotel.id, hotel.reviews.len());
    format!("{id}\t{}\t{count}\t{}\n", score(hotel), newest.text)
}

/// A day as people write it.
fn date(mut day: i64) -> String {
    let mut month = 1;
    for days in [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    format!("2027-{month:02}-{:02}", day + 1)
}
