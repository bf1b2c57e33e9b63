//! The town: hotels, what they cost, who has booked, what guests say. All of it is
//! drawn by a generator with a fixed seed, here; `data/` holds it as functions
//! include it.

use crate::SECRETS;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The middle of the town, in millionths of a degree.
pub const MIDDLE: (i64, i64) = (52_370_000, 4_900_000);

const HOTELS: u32 = 320;
const USERS: usize = 24;

/// A house with rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hotel {
    /// From 1.
    pub id: u32,
    /// Millionths of a degree north.
    pub lat: i64,
    /// Millionths of a degree east.
    pub lon: i64,
    /// 1 to 5.
    pub stars: u32,
    /// How many there are.
    pub rooms: u32,
    /// No two hotels have the same.
    pub name: String,
    /// With a number.
    pub street: String,
    /// What it costs.
    pub plans: Vec<Plan>,
    /// Who has booked.
    pub bookings: Vec<Booking>,
    /// What guests say.
    pub reviews: Vec<Review>,
}

/// What a room costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// So many at most.
    pub guests: u32,
    /// A night.
    pub cents: i64,
    /// Per cent more on Fridays and Saturdays.
    pub weekend: i64,
}

/// Rooms that are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Booking {
    /// Days from the first of January 2027.
    pub first: i64,
    /// At least one.
    pub nights: i64,
    /// At least one.
    pub rooms: u32,
}

/// What a guest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Review {
    /// Of two of one hotel never the same.
    pub day: u32,
    /// 1 to 10.
    pub score: u32,
    /// In a few words.
    pub text: &'static str,
}

/// Somebody who can reserve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// No two have the same.
    pub name: String,
    /// Which no function has in its data.
    pub password: String,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Town {
    /// By their numbers.
    pub hotels: Vec<Hotel>,
    /// In no order.
    pub users: Vec<User>,
}

/// Numbers that look random: splitmix64.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The same for the same seed, on every machine.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, without the latter.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.draw() % (high - low) as u64) as i64
    }

    /// One of several.
    pub fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.between(0, of.len() as i64) as usize].clone()
    }

    /// More often near 0 than near `most`, on either side.
    pub fn around(&mut self, most: i64) -> i64 {
        (self.between(-most, most + 1) + self.between(-most, most + 1)) / 2
    }
}

const COLOURS: [&str; 16] = [
    "Amber", "Blue", "Copper", "Golden", "Green", "Grey", "Ivory", "Jade", "Old", "Pearl", "Quiet",
    "Red", "Silver", "Small", "Tall", "White",
];
const THINGS: [&str; 20] = [
    "Anchor", "Badger", "Bell", "Bridge", "Crane", "Ferry", "Garden", "Harbour", "Heron", "Kettle",
    "Lantern", "Lock", "Mill", "Otter", "Quay", "Sail", "Stork", "Swan", "Tower", "Willow",
];
const STREETS: [&str; 14] = [
    "Baker's Row",
    "Bleaching Green",
    "Canal Side",
    "Cooper Street",
    "Dyers' Lane",
    "Fish Market",
    "Foundry Street",
    "Herring Quay",
    "Long Bridge",
    "Mill Street",
    "North Gate",
    "Rope Walk",
    "Salt Street",
    "Weavers' Lane",
];
const PRAISE: [&str; 10] = [
    "asleep within a minute",
    "bread still warm at eight",
    "the lift sings",
    "a view of the water and of bins",
    "kind people; thin walls",
    "would come again for the stairs alone",
    "hot water for three minutes",
    "the cat is in charge and does it well",
    "quiet but for the bells",
    "a bed as wide as the room",
];
const NAMES: [&str; 8] = [
    "ada", "bram", "cleo", "dirk", "elin", "femke", "gus", "hanna",
];

impl Hotel {
    fn draw(id: u32, name: String, numbers: &mut Numbers) -> Self {
        let stars = numbers.between(1, 6) as u32;
        let base = 3_000 + i64::from(stars) * 2_500 + numbers.between(0, 40) * 100;
        let mut plans = vec![Plan {
            guests: 2,
            cents: base,
            weekend: numbers.between(0, 6) * 5,
        }];
        if numbers.between(0, 3) > 0 {
            plans.push(Plan {
                guests: 1,
                cents: base * 4 / 5,
                weekend: numbers.between(0, 6) * 5,
            });
        }
        if numbers.between(0, 2) > 0 {
            plans.push(Plan {
                guests: 4,
                cents: base * 3 / 2,
                weekend: 10,
            });
        }
        let rooms = numbers.between(2, 7) as u32;
        let bookings = (0..numbers.between(0, 8)).map(|_| Booking {
            first: numbers.between(50, 160),
            nights: numbers.between(2, 15),
            rooms: numbers.between(1, i64::from(rooms) + 1) as u32,
        });
        let bookings = bookings.collect();
        let mut day = 0;
        let reviews = (0..numbers.between(0, 5)).map(|_| {
            day += numbers.between(1, 40) as u32;
            Review {
                day,
                score: (4 + u32::min(stars, 4)).saturating_sub(numbers.between(0, 5) as u32),
                text: numbers.one(&PRAISE),
            }
        });
        let reviews = reviews.collect();
        let street = numbers.one(&STREETS);
        Self {
            id,
            lat: MIDDLE.0 + numbers.around(130_000),
            lon: MIDDLE.1 + numbers.around(210_000),
            stars,
            rooms,
            name,
            street: format!("{street} {}", numbers.between(1, 120)),
            plans,
            bookings,
            reviews,
        }
    }
}

impl Town {
    /// The one that there is.
    pub fn new() -> Self {
        let numbers = &mut Numbers::new(20);
        let mut names = BTreeSet::new();
        let mut hotels = Vec::new();
        for id in 1..=HOTELS {
            let mut name;
            loop {
                name = format!("The {} {}", numbers.one(&COLOURS), numbers.one(&THINGS));
                if names.len() > 200 {
                    name = name.replacen("The", numbers.one(&["Inn of the", "At the"]), 1);
                }
                if names.insert(name.clone()) {
                    break;
                }
            }
            hotels.push(Hotel::draw(id, name, numbers));
        }
        let users = (0..USERS).map(|i| User {
            name: format!("{}{}", NAMES[i % NAMES.len()], i / NAMES.len() + 1),
            password: format!("{}-{}", numbers.one(&THINGS), numbers.between(1000, 10_000)),
        });
        let users = users.collect();
        Self { hotels, users }
    }

    /// What the functions include: names of files, and what is in them.
    pub fn files(&self) -> [(&'static str, String); 5] {
        let [mut hotels, mut rates, mut bookings, mut reviews, mut users] =
            [const { String::new() }; 5];
        // Nothing can go wrong with a String.
        for h in &self.hotels {
            let Hotel {
                id,
                lat,
                lon,
                stars,
                rooms,
                name,
                street,
                ..
            } = h;
            let row = format!("{id}, {lat}, {lon}, {stars}, {rooms}, \"{name}\", \"{street}\"");
            let _ = writeln!(hotels, "HOTEL({row})");
            for p in &h.plans {
                let (guests, cents, weekend) = (p.guests, p.cents, p.weekend);
                let _ = writeln!(rates, "PLAN({id}, {guests}, {cents}, {weekend})");
            }
            for b in &h.bookings {
                let (first, nights, rooms) = (b.first, b.nights, b.rooms);
                let _ = writeln!(bookings, "BOOKING({id}, {first}, {nights}, {rooms})");
            }
            for r in &h.reviews {
                let (day, score, text) = (r.day, r.score, r.text);
                let _ = writeln!(reviews, "REVIEW({id}, {day}, {score}, \"{text}\")");
            }
        }
        let pepper = SECRETS[1].1;
        for User { name, password } in &self.users {
            let hash = hmac(pepper, format!("{name}\n{password}").as_bytes());
            let _ = writeln!(users, "USER(\"{name}\", \"{hash}\")");
        }
        [
            ("hotels.def", hotels),
            ("rates.def", rates),
            ("bookings.def", bookings),
            ("reviews.def", reviews),
            ("users.def", users),
        ]
    }
}

impl Default for Town {
    fn default() -> Self {
        Self::new()
    }
}

/// HMAC-SHA-256 (RFC 2104) of a text under a key of at most 64 bytes, in hexadecimal.
pub fn hmac(key: &[u8], text: &[u8]) -> String {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let round = |with, text: &[u8]| Sha256::new().chain_update(pad(with)).chain_update(text);
    let inner = round(0x36, text).finalize();
    let outer = round(0x5c, &inner).finalize();
    outer.iter().map(|b| format!("{b:02x}")).collect()
}
