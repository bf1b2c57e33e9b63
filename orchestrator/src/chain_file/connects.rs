//! What a function is granted of the world outside: connections that it may make.

use super::diagnostics::Findings;
use super::files::from_root;
use super::model::{ConnectGrant, Place};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path};
use toml::Spanned;
use toml::de::DeValue;

type Value<'a> = Spanned<DeValue<'a>>;

const CONNECT: &str = "write connect = [\"127.0.0.1:6379\", \"db.internal:5432\", \"unix:/run/db.sock\"], or { to = \"…\", keep = true } in the place of one";

/// Each costs the root a comparison for each connection that is asked for, and names a
/// line of the file that the function is shown.
const MOST: usize = 64;

/// What a sandbox has of names at most: DNS has no more.
const LONGEST: usize = 253;

/// The same place, for who has another current folder than this program.
pub(crate) fn place_from_root(place: &Place) -> Place {
    match place {
        Place::Unix(path) => Place::Unix(from_root(path)),
        Place::Address(_) | Place::Name(..) => place.clone(),
    }
}

/// Reads `connect`.
pub(super) fn connects(
    value: &Value<'_>,
    dir: &Path,
    findings: &mut Findings,
) -> Vec<ConnectGrant> {
    let mut all = Vec::new();
    let Some(list) = value.get_ref().as_array() else {
        wrong_type(value, "an array", findings);
        return all;
    };
    let mut seen = BTreeSet::new();
    for value in list {
        let Some((said, keep)) = said(value, findings) else {
            continue;
        };
        match place(said, dir) {
            Ok(to) if !seen.insert(to.clone()) => findings.warning(
                value.span(),
                "duplicate",
                format!("{said:?} is granted twice"),
                "once is enough, and the first is the one that counts",
            ),
            Ok(to) => all.push(ConnectGrant {
                said: said.to_owned(),
                to,
                keep,
            }),
            Err((problem, hint)) => {
                let problem = format!("{said:?} {problem}");
                findings.error(value.span(), "address", problem, hint);
            }
        }
    }
    if all.len() > MOST {
        findings.error(
            value.span(),
            "range",
            format!("{} connections are granted", all.len()),
            format!("at most {MOST} are possible"),
        );
    }
    all
}

/// The text of one, and whether it is kept.
fn said<'v>(value: &'v Value<'_>, findings: &mut Findings) -> Option<(&'v str, bool)> {
    let table = match value.get_ref() {
        DeValue::String(text) => return Some((text, false)),
        DeValue::Table(table) => table,
        _ => {
            wrong_type(value, "a string or a table", findings);
            return None;
        }
    };
    let (mut to, mut keep, mut well) = (None, false, true);
    for (key, value) in table {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("to", DeValue::String(text)) => to = Some(text.as_ref()),
            ("keep", DeValue::Boolean(yes)) => keep = *yes,
            ("to", _) => {
                wrong_type(value, "a string", findings);
                well = false;
            }
            ("keep", _) => {
                wrong_type(value, "a boolean", findings);
                well = false;
            }
            (other, _) => {
                findings.error(
                    key.span(),
                    "unknown-key",
                    format!("unknown key {other:?}"),
                    "known keys here: to, keep",
                );
                well = false;
            }
        }
    }
    if to.is_none() && well {
        let problem = "the connection leads nowhere: it has no `to`";
        findings.error(value.span(), "address", problem, CONNECT);
    }
    let to = to?;
    well.then_some((to, keep))
}

/// What is wrong, and a hint.
type Wrong = (String, String);

fn wrong(problem: &str, hint: &str) -> Wrong {
    (problem.to_owned(), hint.to_owned())
}

fn place(said: &str, dir: &Path) -> Result<Place, Wrong> {
    if let Some(path) = said.strip_prefix("unix:") {
        return unix(path, dir);
    }
    if let Ok(address) = said.parse::<SocketAddr>() {
        return numeric(address);
    }
    let Some((name, port)) = said.rsplit_once(':') else {
        return Err(wrong("has no port", CONNECT));
    };
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|&p: &u16| p > 0 && digits);
    let Some(port) = port else {
        return Err(wrong("has no port from 1 to 65535", CONNECT));
    };
    if !is_host(name) {
        return Err(wrong(
            "is no address, and names no host",
            "write an IPv6 address in brackets, [::1]:6379, and a name with letters, digits, - and . alone",
        ));
    }
    let name = name.to_ascii_lowercase();
    Ok(Place::Name(name, port))
}

fn unix(path: &str, dir: &Path) -> Result<Place, Wrong> {
    if path.starts_with('@') || path.contains('\0') {
        return Err(wrong(
            "has no path",
            "abstract names are not granted: whoever is first has the name; write unix: and the path of the socket",
        ));
    }
    match Path::new(path).components().next_back() {
        Some(Component::Normal(_)) if !path.ends_with('/') => {
            Ok(Place::Unix(dir.join(path).components().collect()))
        }
        _ => Err(wrong(
            "has no path",
            "write unix: and the path of the socket",
        )),
    }
}

fn numeric(address: SocketAddr) -> Result<Place, Wrong> {
    if address.port() == 0 {
        return Err(wrong("has no port from 1 to 65535", CONNECT));
    }
    if let IpAddr::V6(ip) = address.ip()
        && let Some(ip) = ip.to_ipv4_mapped()
    {
        let hint = format!("write it as what it is, {ip}:{}", address.port());
        return Err(("is an IPv4 address in the clothes of IPv6".into(), hint));
    }
    if address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err(wrong(
            "is nobody's address",
            "write the address of the host: 127.0.0.1, if it is this one",
        ));
    }
    Ok(Place::Address(address))
}

/// Whether a text is a host's name and no address, in whichever spelling: the resolver
/// takes 127.1, 2130706433 and 0x7f.1 for addresses.
fn is_host(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        let well = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.len() < 64 && label.bytes().all(well)
    };
    let last = name.rsplit('.').next().unwrap_or("");
    let number = last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit());
    name.len() <= LONGEST && name.split('.').all(label) && !number && !name.starts_with('-')
}

fn wrong_type(value: &Value<'_>, want: &str, findings: &mut Findings) {
    let problem = format!("expected {want}, found {}", value.get_ref().type_str());
    findings.error(value.span(), "type", problem, CONNECT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_a_name_or_a_path() {
        let of = |said| place(said, Path::new("/at"));
        let address = |text: &str| Ok(Place::Address(text.parse().unwrap()));
        assert_eq!(of("127.0.0.1:6379"), address("127.0.0.1:6379"));
        assert_eq!(of("[::1]:1"), address("[::1]:1"));
        assert_eq!(
            of("Db.internal:5432"),
            Ok(Place::Name("db.internal".into(), 5432))
        );
        assert_eq!(of("localhost:80"), Ok(Place::Name("localhost".into(), 80)));
        let unix = |path: &str| Ok(Place::Unix(path.into()));
        assert_eq!(of("unix:/run/db.sock"), unix("/run/db.sock"));
        assert_eq!(of("unix:db.sock"), unix("/at/db.sock"));
        for said in [
            "",
            ":80",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:+80",
            "host:x",
            "127.0.0.1",
            "127.0.0.1:0",
            "127.1:80",
            "2130706433:80",
            "0x7f.1:80",
            "1.0x1:80",
            "::1:80",
            "[::ffff:127.0.0.1]:80",
            "0.0.0.0:80",
            "[::]:80",
            "224.0.0.1:80",
            "a..b:80",
            "-a:80",
            "a b:80",
            "a/b:80",
            "a\n127.0.0.1 b:80",
            "unix:",
            "unix:/",
            "unix:..",
            "unix:@name",
            "unix:\0name",
            "unix:/a/..",
        ] {
            assert!(of(said).is_err(), "{said:?}: {:?}", of(said));
        }
    }
}
