//! `serve` by TLS: who is answered, what a handshake may cost others, when a certificate
//! is replaced, and who has its key in memory.

#[path = "../common/mod.rs"]
mod common;

use common::server::{LIMIT, Response, Server, chains, pair};
use common::{Folder, home, orchestrator, text};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SerialNumber};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// An authority, with one below it that signs.
struct Authority {
    root: CertificateDer<'static>,
    middle: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The end of all certificates of servers, in seconds after 1970.
const ENDS: f64 = 2_208_988_800.0;

/// What a server is started with.
struct Own {
    /// Its certificate and the one of who signed it.
    chain: String,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let ca = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            params
        };
        let key = KeyPair::generate().unwrap();
        let root = ca("root").self_signed(&key).unwrap();
        let issuer = Issuer::new(ca("root"), key);
        let key = KeyPair::generate().unwrap();
        let middle = ca("middle").signed_by(&key, &issuer).unwrap();
        Self {
            root: root.der().clone(),
            middle: middle.pem(),
            issuer: Issuer::new(ca("middle"), key),
        }
    }

    /// A certificate with this serial number, by which it is told from others.
    fn sign(&self, serial: u64, key: KeyPair) -> Own {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        params.serial_number = Some(SerialNumber::from(serial));
        let own = params.signed_by(&key, &self.issuer).unwrap();
        Own {
            chain: own.pem() + &self.middle,
            key,
        }
    }

    fn own(&self, serial: u64) -> Own {
        self.sign(serial, KeyPair::generate().unwrap())
    }

    fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// Puts a file in the place of another at once, with a mode of its own.
fn put(path: &Path, text: &str, mode: u32) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, PermissionsExt::from_mode(mode)).unwrap();
    std::fs::rename(new, path).unwrap();
}

impl Own {
    fn put(&self, folder: &Folder) {
        put(&folder.path("cert.pem"), &self.chain, 0o644);
        put(&folder.path("key.pem"), &self.key.serialize_pem(), 0o600);
    }
}

fn command(folder: &Folder, options: &[&str]) -> std::process::Command {
    let mut command = orchestrator();
    command
        .args(["-v", "serve", "--listen", "127.0.0.1:0", "--workers", "1"])
        .args(["--admin", "127.0.0.1:0"])
        .arg(folder.path("chain.toml"))
        .arg("--tls-cert")
        .arg(folder.path("cert.pem"))
        .arg("--tls-key")
        .arg(folder.path("key.pem"))
        .args(options);
    command
}

fn serve(own: &Own, options: &[&str]) -> Server {
    let ours = home().join("orchestrator/tests/serve/functions.c");
    // Answers after 300 ms.
    let late = format!("[functions.slow]\nsource = {ours:?}\n[chains.late]\nsteps = [\"slow\"]\n");
    let folder = Folder::new(&chains(&late));
    own.put(&folder);
    let command = command(&folder, options);
    Server::spawn(folder, command)
}

const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A connection whose handshake is done.
fn connect(server: &Server, config: &Arc<ClientConfig>) -> std::io::Result<Tls> {
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(client, server.connect());
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

fn ask(stream: &mut Tls, body: &[u8], more: &str) {
    let head = format!(
        "POST /chains/pair HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
}

/// The next answer on a connection that goes on.
fn answer(stream: &mut Tls) -> Response {
    let mut all = Vec::new();
    loop {
        if let Some((response, rest)) = Response::parse(&all) {
            assert!(rest.is_empty());
            return response;
        }
        let mut some = [0; 4096];
        let n = stream.read(&mut some).unwrap();
        assert_ne!(n, 0, "it hung up: {}", text(&all));
        all.extend_from_slice(&some[..n]);
    }
}

/// The certificate that a new connection is shown.
fn shown(server: &Server, config: &Arc<ClientConfig>) -> CertificateDer<'static> {
    let stream = connect(server, config).unwrap();
    stream.conn.peer_certificates().unwrap()[0].clone()
}

fn first(chain: &str) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()
}

fn handshakes(server: &Server, result: &str) -> f64 {
    let name = format!("lwc_tls_handshakes_total{{result=\"{result}\"}}");
    server.admin().metric(&name).unwrap()
}

fn reloads(server: &Server, result: &str) -> f64 {
    let name = format!("lwc_tls_reloads_total{{result=\"{result}\"}}");
    server.admin().metric(&name).unwrap_or(0.0)
}

/// The versions of TLS and of HTTP in every combination, and bodies of several records.
#[test]
fn each_version_of_tls_and_of_http_is_served() {
    let authority = Authority::new();
    let server = serve(&authority.own(1), &[]);
    let body: Vec<u8> = (0..200_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    for version in BOTH {
        for alpn in [&[][..], &["http/1.1"]] {
            let config = authority.client(&[version], alpn);
            let mut stream = connect(&server, &config).unwrap();
            assert_eq!(stream.conn.protocol_version(), Some(version.version));
            let agreed = stream.conn.alpn_protocol();
            assert_eq!(agreed, alpn.first().map(|a| a.as_bytes()));
            for body in [&body[..], b"", b"abc"] {
                ask(&mut stream, body, "");
                let answer = answer(&mut stream);
                assert_eq!((answer.status, answer.body), (200, pair(body)));
            }
        }
        // Who comes again goes on with the session that there was.
        let config = authority.client(&[version], &[]);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = connect(&server, &config).unwrap();
            ask(&mut stream, b"abc", "");
            assert_eq!(answer(&mut stream).body, b"CBA");
            assert_eq!(stream.conn.handshake_kind(), Some(kind));
        }
        let config = authority.client(&[version], &["h2", "http/1.1"]);
        let asked = body.clone();
        let answers = two(&server, config, vec![asked, b"abc".to_vec()]);
        assert_eq!(answers, [pair(&body), pair(b"abc")]);
    }
    // What neither side knows is no protocol.
    let config = authority.client(&BOTH, &["gopher"]);
    assert!(connect(&server, &config).is_err());
    server.until("it is counted", || handshakes(&server, "failed") == 1.0);
    assert_eq!(handshakes(&server, "done"), 10.0);
    // Who does not trust the authority says so.
    let other = Authority::new().client(&BOTH, &[]);
    let error = connect(&server, &other).unwrap_err().to_string();
    assert!(error.starts_with("invalid peer certificate"), "{error}");
    server.until("it is counted", || handshakes(&server, "failed") == 2.0);
    // Operators are on the same machine, and speak as before.
    assert_eq!(server.admin().get("/readyz").status, 200);
    let ends = "lwc_tls_certificate_end_timestamp_seconds";
    assert_eq!(server.admin().metric(ends), Some(ENDS));
}

/// Answers to requests of chain `pair` on one connection of HTTP/2.
fn two(server: &Server, config: Arc<ClientConfig>, bodies: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let address = server.address;
    let asking = async move {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        let stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut send, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let mut answers = Vec::new();
        for body in bodies {
            let request = hyper::Request::post(format!("https://{address}/chains/pair"));
            let request = request.body(Full::new(Bytes::from(body))).unwrap();
            let response = send.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let body = response.into_body().collect().await.unwrap();
            answers.push(body.to_bytes().to_vec());
        }
        answers
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, asking).await.unwrap() })
}

/// RSA and ECDSA as they were written before PKCS #8, and each kind as it is now.
#[test]
fn keys_may_be_written_in_each_way() {
    let authority = Authority::new();
    // Made for this test; it opens nothing.
    let rsa = || KeyPair::from_pem(include_str!("rsa.pem")).unwrap();
    let ec = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let ed = || KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let server = serve(&authority.own(1), &[]);
    let cases: [(KeyPair, Option<&str>); 5] = [
        (rsa(), None),
        (rsa(), Some("RSA PRIVATE KEY")),
        (ec(), None),
        (ec(), Some("EC PRIVATE KEY")),
        (ed(), None),
    ];
    let config = authority.client(&BOTH, &[]);
    for (serial, (key, older)) in (2..).zip(cases) {
        let own = authority.sign(serial, key);
        let written = match older {
            Some(label) => {
                let old = within(own.key.serialized_der());
                // As openssl ecparam writes it, with something before it.
                let before =
                    "-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n";
                format!("{before}{}", pem(label, old))
            }
            None => own.key.serialize_pem(),
        };
        let done = reloads(&server, "ok");
        put(&server.folder.path("key.pem"), &written, 0o600);
        put(&server.folder.path("cert.pem"), &own.chain, 0o644);
        server.until("it is taken", || {
            shown(&server, &config) == first(&own.chain)
        });
        assert_eq!(reloads(&server, "ok"), done + 1.0, "{}", server.log());
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|l| std::str::from_utf8(l).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// The key within PKCS #8: a sequence of a number, an algorithm and a string of octets.
fn within(der: &[u8]) -> &[u8] {
    fn next(der: &[u8]) -> (&[u8], &[u8]) {
        let (long, at) = match der[1] {
            n @ 0..0x80 => (usize::from(n), 2),
            n => {
                let bytes = usize::from(n & 0x7f);
                let of = &der[2..2 + bytes];
                let long = of.iter().fold(0, |all, &b| all << 8 | usize::from(b));
                (long, 2 + bytes)
            }
        };
        (&der[at..at + long], &der[at + long..])
    }
    let (_version, rest) = next(next(der).0);
    let (_algorithm, rest) = next(rest);
    next(rest).0
}

#[test]
fn a_certificate_is_replaced_when_its_files_change() {
    let authority = Authority::new();
    let config = authority.client(&BOTH, &[]);
    let (one, two, three) = (authority.own(1), authority.own(2), authority.own(3));
    let server = serve(&one, &[]);
    assert_eq!(shown(&server, &config), first(&one.chain));
    let mut before = connect(&server, &config).unwrap();
    // Times of files tell nothing: these are older than what is served.
    let folder = &server.folder;
    for (name, text) in [
        ("cert.pem", &two.chain),
        ("key.pem", &two.key.serialize_pem()),
    ] {
        let path = folder.write("next", text);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        std::fs::rename(path, folder.path(name)).unwrap();
    }
    server.until("the second is served", || {
        shown(&server, &config) == first(&two.chain)
    });
    // A connection that there was goes on.
    ask(&mut before, b"abc", "");
    assert_eq!(answer(&mut before).body, b"CBA");
    // A key of another one.
    put(&folder.path("key.pem"), &three.key.serialize_pem(), 0o600);
    server.until("it is refused", || reloads(&server, "refused") == 1.0);
    assert!(
        server
            .log()
            .contains("this is not the key of the first certificate in"),
        "{}",
        server.log()
    );
    assert_eq!(shown(&server, &config), first(&two.chain));
    ask(&mut before, b"abc", "");
    assert_eq!(answer(&mut before).body, b"CBA");
    put(&folder.path("cert.pem"), &three.chain, 0o644);
    server.until("they fit again", || {
        shown(&server, &config) == first(&three.chain)
    });
}

#[test]
fn a_signal_alone_replaces_it_where_nothing_is_watched() {
    let authority = Authority::new();
    let config = authority.client(&BOTH, &[]);
    let (one, two) = (authority.own(1), authority.own(2));
    let server = serve(&one, &["--no-watch"]);
    for own in [&two, &one, &two] {
        own.put(&server.folder);
        server.signal(libc::SIGHUP);
        server.until("it is served", || {
            shown(&server, &config) == first(&own.chain)
        });
    }
    assert_eq!(reloads(&server, "refused"), 0.0);
}

#[test]
fn a_start_without_a_good_pair_fails_and_says_why() {
    let authority = Authority::new();
    let own = authority.own(1);
    let folder = Folder::new(&chains(""));
    own.put(&folder);
    put(&folder.path("key.pem"), "nothing\n", 0o600);
    let out = command(&folder, &[]).output().unwrap();
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(4), "{said}");
    assert!(
        said.contains("--tls-key") && said.contains("there is no private key in it"),
        "{said}"
    );
    // One without the other is no pair.
    let out = orchestrator()
        .args(["serve", "--tls-cert", "cert.pem"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(
        text(&out.stderr).contains("--tls-key"),
        "{}",
        text(&out.stderr)
    );
}

/// Nobody waits for who says nothing, and each of these is a connection of its address.
#[test]
fn handshakes_that_are_under_way_hold_up_nobody_and_are_counted() {
    let authority = Authority::new();
    let config = authority.client(&BOTH, &[]);
    let server = serve(
        &authority.own(1),
        &["--header-timeout", "10m", "--address-connections", "65"],
    );
    // Silent ones, and some that have begun.
    let mut idle: Vec<TcpStream> = (0..64).map(|_| server.connect()).collect();
    for stream in idle.iter_mut().step_by(2) {
        stream
            .write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            .unwrap();
    }
    server.until("all are there", || {
        server.admin().metric("lwc_connections") == Some(64.0)
    });
    let mut stream = connect(&server, &config).unwrap();
    ask(&mut stream, b"abc", "");
    assert_eq!(answer(&mut stream).body, b"CBA");
    // There is no room for one more, until it has left.
    let mut more = Vec::new();
    let _ = server.connect().read_to_end(&mut more);
    assert!(more.is_empty());
    let refused = "lwc_refused_total{budget=\"connections\"}";
    assert_eq!(server.admin().metric(refused), Some(1.0));
    drop(stream);
    for stream in &idle {
        stream.set_nonblocking(true).unwrap();
        let e = (&*stream).read(&mut [0]).unwrap_err();
        assert_eq!(
            e.kind(),
            std::io::ErrorKind::WouldBlock,
            "it is still there"
        );
    }
    drop(idle);
    server.until("they are gone", || {
        server.admin().metric("lwc_connections") == Some(0.0)
    });
    assert_eq!(handshakes(&server, "gone"), 64.0);
    assert_eq!(handshakes(&server, "done"), 1.0);
}

#[test]
fn a_handshake_has_as_long_as_a_head() {
    let authority = Authority::new();
    let config = authority.client(&BOTH, &[]);
    let server = serve(&authority.own(1), &["--header-timeout", "1s"]);
    let mut idle: Vec<TcpStream> = (0..16).map(|_| server.connect()).collect();
    // One that goes on all the time: a message of 16 KiB, a byte at a time.
    let mut slow = server.connect();
    let trickle = std::thread::spawn(move || {
        let mut sent = 0;
        let head = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03";
        for byte in head.iter().copied().chain(std::iter::repeat(0)) {
            if slow.write_all(&[byte]).is_err() {
                break;
            }
            sent += 1;
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        sent
    });
    for stream in &mut idle {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it is hung up on");
    }
    assert!(
        trickle.join().unwrap() < 16_000,
        "it was hung up on before its message was whole"
    );
    server.until("all are counted", || handshakes(&server, "slow") == 17.0);
    // A machine that is busy may take longer than this limit, too.
    server.until("one that is quick is answered", || {
        connect(&server, &config).is_ok()
    });
}

/// The limits that hold for plain connections do for these.
#[test]
fn who_says_or_takes_nothing_after_its_handshake_is_hung_up_on() {
    let authority = Authority::new();
    let server = serve(&authority.own(1), &["--header-timeout", "1s"]);
    // A machine that is busy may need longer for the handshake.
    let connected = |alpn: &[&str]| {
        let config = authority.client(&BOTH, alpn);
        let mut stream = None;
        server.until("a handshake", || {
            stream = connect(&server, &config).ok();
            stream.is_some()
        });
        stream.unwrap()
    };
    for alpn in ["h2", "http/1.1"] {
        let mut silent = connected(&[alpn]);
        // Of HTTP/2 its own first words come.
        let mut said = Vec::new();
        let end = silent.read_to_end(&mut said);
        let over = end.map_err(|e| e.kind());
        assert_ne!(
            over,
            Err(std::io::ErrorKind::WouldBlock),
            "it is still there"
        );
    }
    // More answers than the system keeps for who takes none.
    let mut deaf = connected(&["http/1.1"]);
    deaf.conn.set_buffer_limit(None);
    let body = [b'a'; 200_000];
    let head = format!(
        "POST /chains/pair HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for _ in 0..100 {
        let mut to = deaf.conn.writer();
        to.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    }
    let (mut socket, mut conn) = (deaf.sock, deaf.conn);
    socket.set_nonblocking(true).unwrap();
    server.until("it is hung up on", || match conn.write_tls(&mut socket) {
        Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => true,
        _ => {
            assert!(conn.wants_write(), "the server takes all, and is not stuck");
            false
        }
    });
    server.until("it is gone", || {
        server.admin().metric("lwc_connections") == Some(0.0)
    });
}

/// Each asks for a new key of the other side's, which would be a message for each; who
/// takes none of them has the server keep no more than one, and is hung up on.
#[test]
fn who_asks_for_new_keys_all_the_time_takes_no_memory() {
    let authority = Authority::new();
    let config = authority.client(&[&rustls::version::TLS13], &["http/1.1"]);
    let server = serve(&authority.own(1), &["--header-timeout", "1s"]);
    let resident = || {
        let name = "process_resident_memory_bytes";
        server.admin().metric(name).unwrap()
    };
    let mut stream = None;
    server.until("a handshake", || {
        stream = connect(&server, &config).ok();
        stream.is_some()
    });
    let StreamOwned { mut conn, sock } = stream.unwrap();
    let mut sock = &sock;
    let before = resident();
    let mut asked = 0;
    server.until("it is hung up on", || {
        if conn.refresh_traffic_keys().is_err() {
            return true;
        }
        asked += 1;
        while conn.wants_write() {
            if conn.write_tls(&mut sock).is_err() {
                return true;
            }
        }
        false
    });
    let more = resident() - before;
    assert!(asked > 0 && more < f64::from(16 << 20), "{asked}: {more}");
    server.until("it is gone", || {
        server.admin().metric("lwc_connections") == Some(0.0)
    });
}

#[test]
fn who_closes_its_half_is_answered() {
    let authority = Authority::new();
    let server = serve(&authority.own(1), &[]);
    for version in BOTH {
        let config = authority.client(&[version], &[]);
        // By the rules; and without a word, as many clients do.
        for says_so in [true, false] {
            let mut stream = connect(&server, &config).unwrap();
            stream
                .write_all(b"POST /chains/late HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            if says_so {
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
            stream.sock.shutdown(Shutdown::Write).unwrap();
            assert_eq!(answer(&mut stream).body, b"late");
            // It takes leave by TLS, so that nobody can have cut off what came.
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        // What is cut off is no request.
        let invoked = || {
            let name = "faas_invocations_total{chain=\"pair\"}";
            let whole = server.admin().metric(name).unwrap();
            let name = "faas_errors_total{chain=\"pair\",cause=\"bad-body\"}";
            whole - server.admin().metric(name).unwrap()
        };
        let before = invoked();
        let mut stream = connect(&server, &config).unwrap();
        let head = b"POST /chains/pair HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nab";
        stream.write_all(head).unwrap();
        stream.sock.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let status = Response::parse(&all).map(|(r, _)| r.status);
        assert!(matches!(status, None | Some(400)), "{}", text(&all));
        assert_eq!(invoked(), before);
    }
}

#[test]
fn who_speaks_plainly_is_told_so() {
    let authority = Authority::new();
    let config = authority.client(&BOTH, &[]);
    let server = serve(&authority.own(1), &[]);
    for body in [&b""[..], &[b'a'; 20_000]] {
        let r = server.post("pair", body);
        assert_eq!(r.status, 400);
        assert!(text(&r.body).contains("https://"), "{}", text(&r.body));
    }
    assert!(server.raw(b"\x00\x01\x02\x03").is_empty());
    assert!(server.raw(b"\x80\x2e\x01\x00\x02").is_empty(), "SSL 2");
    assert_eq!(handshakes(&server, "plain"), 4.0);
    let told = server.log().matches("does not speak TLS").count();
    assert_eq!(told, 1, "{}", server.log());
    // What begins as TLS and is none is told so in TLS's words.
    let said = server.raw(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00");
    assert_eq!(said.first(), Some(&21), "an alert: {said:?}");
    assert_eq!(handshakes(&server, "failed"), 1.0);
    let mut stream = connect(&server, &config).unwrap();
    ask(&mut stream, b"abc", "Connection: close\r\n");
    assert_eq!(answer(&mut stream).body, b"CBA");
}

/// Who is overheard by nobody need not be.
#[test]
fn a_socket_file_is_a_plain_one_beside_it() {
    let authority = Authority::new();
    let config = authority.client(&BOTH, &[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let at = format!("unix:{}", path.display());
    let server = serve(&authority.own(1), &["--listen", &at]);
    let mut file = std::os::unix::net::UnixStream::connect(&path).unwrap();
    file.set_read_timeout(Some(LIMIT)).unwrap();
    let head =
        "POST /chains/pair HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\n";
    file.write_all(format!("{head}abc").as_bytes()).unwrap();
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    assert_eq!(Response::parse(&all).unwrap().0.body, b"CBA");
    let mut stream = connect(&server, &config).unwrap();
    ask(&mut stream, b"abc", "Connection: close\r\n");
    assert_eq!(answer(&mut stream).body, b"CBA");
    assert_eq!(server.post("pair", b"abc").status, 400);
}

/// Handshakes that will not end keep no server from ending.
#[test]
fn the_end_waits_for_no_handshake() {
    let authority = Authority::new();
    let config = authority.client(&BOTH, &[]);
    let mut server = serve(&authority.own(1), &["--header-timeout", "10m"]);
    let idle: Vec<TcpStream> = (0..8).map(|_| server.connect()).collect();
    server.until("all are there", || {
        server.admin().metric("lwc_connections") == Some(8.0)
    });
    let mut stream = connect(&server, &config).unwrap();
    ask(&mut stream, b"abc", "");
    assert_eq!(answer(&mut stream).body, b"CBA");
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    // It said goodbye to who was there.
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    drop(idle);
}

/// By what /proc shows, and so where contexts are processes and the test may look: as root
/// it sees that the key is in the gateway and in nobody else's memory; as another user, that
/// nobody's can be opened.
#[cfg(target_os = "linux")]
#[test]
fn the_key_is_in_the_memory_of_the_gateway_alone() {
    use common::server::{self, children, holds};
    use sha2::{Digest, Sha512};
    let authority = Authority::new();
    let config = authority.client(&BOTH, &[]);
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let own = authority.sign(1, key);
    // What it signs with is made of the key: RFC 8032, 5.1.5; the second half as it is.
    let seed = within(own.key.serialized_der())[2..].to_vec();
    assert_eq!(seed.len(), 32);
    let made = Sha512::digest(&seed)[32..].to_vec();
    let pem = own.key.serialize_pem();
    let pem = pem.lines().nth(1).unwrap().as_bytes()[4..].to_vec();
    let server = serve(&own, &[]);
    let mut stream = connect(&server, &config).unwrap();
    // As many contexts as there will be, new ones among them.
    for _ in 0..2 {
        ask(&mut stream, b"abc", "");
        assert_eq!(answer(&mut stream).body, b"CBA");
    }
    // A worker that was started when the gateway had shaken hands already.
    let old = server.workers();
    server::send(old[0], libc::SIGKILL);
    server.until("it is replaced", || {
        let new = server.workers();
        new.len() == 1 && new != old
    });
    ask(&mut stream, b"abc", "");
    assert_eq!(answer(&mut stream).body, b"CBA");
    let worker = server.workers()[0];
    let contexts = children(worker);
    assert!(contexts.len() >= 4, "{contexts:?}");
    let others: Vec<u32> = [worker]
        .into_iter()
        .chain(contexts)
        .map(|p| p as u32)
        .collect();
    let root = std::fs::File::open(format!("/proc/{worker}/mem")).is_ok();
    for (what, needle) in [("file", &pem), ("key", &seed), ("signs", &made)] {
        for &pid in &others {
            let expected = root.then_some(false);
            assert_eq!(holds(pid, needle), expected, "{what} in {pid}");
        }
    }
    // The search finds what is there.
    assert_eq!(holds(server.pid(), &made), root.then_some(true));
}
