//! The page at `/`, in a real browser.

use crate::server::{LIMIT, Server, chains, with_tree};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// In a real browser: the graph is drawn and its figures follow the requests.
#[test]
fn the_page_shows_the_chains_in_a_browser() {
    let Some(browser) = browser() else { return };
    let server = Server::start(&["--workers", "1"]);
    let page = server.get("/");
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(page.headers["content-security-policy"].starts_with("default-src 'none'"));
    let seen = || {
        let options = ["--virtual-time-budget=4000"];
        dom(&browser, &server, &options, server.address)
    };
    let of_pair = |page: &str| {
        let (_, rest) = page
            .split_once("<section data-chain=\"pair\">")
            .expect(page);
        rest.split_once("</section>").unwrap().0.to_owned()
    };
    let before = seen();
    assert!(before.contains("class=\"\">serving<"), "{before}");
    let pair = of_pair(&before);
    let (upper, reverse) = (pair.find("<b>upper</b>"), pair.find("<b>reverse</b>"));
    assert!(upper.is_some() && upper < reverse, "{pair}");
    assert!(pair.contains("256 KiB"), "the regions between: {pair}");
    assert!(pair.contains("<dt>answered</dt><dd>0</dd>"), "{pair}");
    for _ in 0..3 {
        server.post("pair", b"ab");
    }
    let pair = of_pair(&seen());
    assert!(pair.contains("<dt>answered</dt><dd>3</dd>"), "{pair}");
    assert!(!pair.contains("<dt>p50</dt><dd>–</dd>"), "{pair}");
}

/// The one that is asked for comes before those that are not, wherever the file has it.
#[test]
fn the_page_has_busy_chains_first_in_a_browser() {
    let Some(browser) = browser() else { return };
    let server = Server::start(&["--workers", "1"]);
    let stop = AtomicBool::new(false);
    let page = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                server.post("pair", b"ab");
            }
        });
        let options = ["--virtual-time-budget=8000"];
        let page = dom(&browser, &server, &options, server.address);
        stop.store(true, Ordering::Relaxed);
        page
    });
    let at = |chain: &str| {
        page.find(&format!("<section data-chain=\"{chain}\">"))
            .expect(&page)
    };
    assert!(
        at("pair") < at("hasty") && at("hasty") < at("trial"),
        "{page}"
    );
    assert!(page.contains("<dt>up</dt>"), "{page}");
}

/// Each call of the tree is drawn once, below its caller, with its figures.
#[test]
fn the_page_draws_the_tree_of_calls_in_a_browser() {
    let Some(browser) = browser() else { return };
    let server = Server::with(&with_tree(), &["--workers", "1"]);
    server.post("tree", b"times 7 left {say x};call right {crash}");
    let options = ["--virtual-time-budget=4000"];
    let page = dom(&browser, &server, &options, server.address);
    let (_, rest) = page
        .split_once("<section data-chain=\"tree\">")
        .expect(&page);
    let (tree, _) = rest.split_once("</section>").unwrap();
    let (_, tree) = tree.split_once("class=\"calls\"").expect(tree);
    // The names in order, and how deep each is.
    let mut depth = 0;
    let mut names = Vec::new();
    for part in tree.split('<') {
        match part {
            p if p.starts_with("ul>") => depth += 1,
            p if p.starts_with("/ul>") => depth -= 1,
            p => names.extend(p.strip_prefix("b>").map(|name| (depth, name))),
        }
    }
    let expected = [
        (0, "top"),
        (1, "left"),
        (2, "deep"),
        (2, "right"),
        (3, "deep"),
        (1, "right"),
    ];
    assert_eq!(names, expected, "{tree}");
    assert!(tree.contains("its calls are above"), "{tree}");
    assert!(tree.contains("/s · 7 calls · p50 "), "{tree}");
    let (_, failing) = tree.split_once("class=\"failing\"").expect(tree);
    assert!(failing.contains(" · 1 call · p50 ") && failing.contains(" · 1 failed"));
    assert_eq!(
        page.matches("class=\"calls\"").count(),
        1,
        "no calls, no tree"
    );
}

/// Looks at the page through a frame as wide as a telephone. The image keeps
/// the browser here until all is seen.
const LOOKER: &str = r#"<!doctype html><body><img src="/wait">
<iframe src="/page" style="width: 360px; height: 600px; border: 0"></iframe>
<script>
"use strict";
const frame = document.querySelector("iframe");
const seen = [];
const look = () => {
  const page = frame.contentDocument;
  const state = page && page.getElementById("state");
  if (state && page.querySelector("section[data-chain]")) {
    const now = state.textContent.split(";")[0] + "/" + page.body.className;
    if (seen.at(-1) !== now) seen.push(now);
    if (seen.length === 1) {
      const root = page.documentElement;
      document.body.dataset.overflow = root.scrollWidth - root.clientWidth;
    }
    if (state.textContent.startsWith("out of reach")) document.body.dataset.bad = state.textContent;
    if (seen.length === 3) {
      document.body.dataset.seen = seen.join(" ");
      fetch("/done");
      return;
    }
  }
  setTimeout(look, 50);
};
look();
</script>"#;

/// A narrow window, long names, and a server that hangs for one answer.
#[test]
fn the_page_fits_a_telephone_and_says_when_its_figures_are_old() {
    let Some(browser) = browser() else { return };
    // The longest that a chain file takes.
    let (long, function) = ("m".repeat(63), "w".repeat(63));
    let source = crate::common::home().join("orchestrator/tests/serve/functions.c");
    let more = format!(
        "[functions.{function}]\nsource = {source:?}\nhandler = \"upper\"\n\
         [chains.{long}]\nsteps = [\"{function}\", \"reverse\"]\n"
    );
    let server = Server::with(&chains(&more), &["--workers", "1"]);
    let page = server.get("/").body;
    let status = server.get("/status.json").body;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stand_in = Arc::new(StandIn::default());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stand_in, page, status) = (Arc::clone(&stand_in), page.clone(), status.clone());
            std::thread::spawn(move || {
                let stream = stream.unwrap();
                // A browser that hangs up early is none of ours.
                let _ = stand_in.serve(BufReader::new(stream), &page, &status);
            });
        }
    });
    let dom = dom(&browser, &server, &[], address);
    assert!(dom.contains("data-overflow=\"0\""), "{dom}");
    assert!(
        dom.contains("data-seen=\"serving/ out of reach/stale serving/\""),
        "{dom}"
    );
    assert!(
        dom.contains("data-bad=\"out of reach; figures of "),
        "{dom}"
    );
}

/// Serves the page as a gateway does that answers twice, hangs once, and
/// answers again.
#[derive(Default)]
struct StandIn {
    asked: AtomicUsize,
    done: Mutex<bool>,
    bell: Condvar,
}

impl StandIn {
    fn serve(
        &self,
        mut stream: BufReader<std::net::TcpStream>,
        page: &[u8],
        status: &[u8],
    ) -> std::io::Result<()> {
        let mut head = String::new();
        while stream.read_line(&mut head)? > 2 {}
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (kind, body) = match path {
            "/" => ("text/html", LOOKER.as_bytes()),
            "/page" => ("text/html; charset=utf-8", page),
            "/status.json" if self.asked.fetch_add(1, Ordering::AcqRel) == 2 => {
                // No answer, until the browser gives it up.
                stream.read_to_end(&mut Vec::new())?;
                return Ok(());
            }
            "/status.json" => ("application/json", status),
            "/wait" => {
                let done = self.done.lock().unwrap();
                let (done, _) = self.bell.wait_timeout_while(done, LIMIT, |d| !*d).unwrap();
                drop(done);
                ("text/plain", &b""[..])
            }
            "/done" => {
                *self.done.lock().unwrap() = true;
                self.bell.notify_all();
                ("text/plain", &b""[..])
            }
            _ => ("text/plain", &b""[..]),
        };
        let length = body.len();
        write!(
            stream.get_mut(),
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n"
        )?;
        stream.get_mut().write_all(body)
    }
}

/// What a browser makes of the page at an address.
pub(super) fn dom(browser: &str, server: &Server, options: &[&str], address: SocketAddr) -> String {
    let out = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args(options)
        .arg("--dump-dom")
        .arg(format!(
            "--user-data-dir={}",
            server.folder.path("browser").display()
        ))
        .arg(format!("http://{address}/"))
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

/// A browser of this machine. Without one the test is left out, loudly; CI has
/// one and says so.
pub(super) fn browser() -> Option<String> {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let there = |name: &str| {
        let version = Command::new(name).arg("--version").output();
        version.is_ok_and(|o| o.status.success())
    };
    let found = names.iter().find(|n| there(n)).map(|n| (*n).to_owned());
    if found.is_none() {
        assert!(
            std::env::var_os("LWC_TEST_BROWSER").is_none(),
            "LWC_TEST_BROWSER is set and there is none of {names:?}"
        );
        eprintln!("SKIPPED: there is none of {names:?} to look at the page with");
    }
    found
}
