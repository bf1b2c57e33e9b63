//! `serve`: chains over HTTP.

use super::logging::Format;
use super::{build_and_show, complain, exit, prepare_by, write_out};
use crate::build::{Stop, build_until};
use crate::chain_file::ChainFile;
use crate::gateway::{
    self, Given, Listen, Loaded, NatsOptions, Options, Place, Target, TlsOptions,
};
use crate::life::open_files::keep_from_programs;
use crate::printable::printable_lines;
use crate::title;
use clap::{Args, ValueEnum};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const AFTER: &str = "\
Signals:
  SIGTERM, SIGINT  finish what was taken, refuse the rest, end; twice: at once
  SIGHUP           read the chain file and the certificate again, as when they have
                   changed; a bad one is refused

Sockets:
  Those that systemd hands over (LISTEN_FDS) are listened on in the place of the
  default address, and beside --listen and --port; one with the name `admin`
  (FileDescriptorName=admin) is for operators, as --admin

Paths:
  POST /chains/NAME, /functions/NAME; GET /healthz, /readyz, /metrics
  With --target every path and method is the target's, but /robots.txt and
  /favicon.ico (the Functions Framework contract), and the address is
  0.0.0.0:$PORT (8080) unless --listen or --port says otherwise";

/// How long what is left of the gateway may take to end.
const LEAVE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct ServeArgs {
    /// The chain file, or the folder of a bundle
    #[arg(default_value = "chain.toml")]
    file: PathBuf,
    /// Address, or a name such as localhost, and port; :PORT is one on all addresses of
    /// IPv4, as --port; port 0 takes a free one, which stdout tells. Or unix:PATH, a socket
    /// file, which is made at the start and goes at the end. May be given several times
    /// [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "port", value_parser = address)]
    listen: Vec<At>,
    /// A port on all addresses, as --listen 0.0.0.0:PORT
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Speak TLS by this certificate, and those that lead to its authority, in PEM. Read
    /// again on SIGHUP and when it has changed
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Who may connect to socket files of --listen and --admin: their permissions, in octal
    #[arg(long, default_value = "0600", value_name = "MODE", value_parser = mode)]
    socket_mode: u32,
    /// A listener of its own for metrics and whatever is not for callers: as --listen
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    admin: Option<At>,
    /// A name by which operators call this machine there, beside localhost, addresses
    /// and names without a dot; `*` for any. A page of the web that has its own name
    /// lead here is refused (421)
    #[arg(long, value_name = "NAME")]
    admin_host: Vec<String>,
    /// Serve this chain, or function, alone, at every path
    /// [env: FUNCTION_TARGET]
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// What the target takes, where its code does not say
    /// [default: http] [env: FUNCTION_SIGNATURE_TYPE]
    #[arg(long, value_name = "TYPE")]
    signature_type: Option<Signature>,
    /// Worker processes, in each group of functions; default: one a core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Start more workers, up to so many in each group of functions, while requests have
    /// waited for 10 ms and none is free; default: none. For functions that wait, for
    /// connections or for each other
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers_max: Option<u16>,
    /// How long one of those may have nothing to do before it ends
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = time)]
    workers_idle: Duration,
    /// Let gateway and workers run on any processor. Otherwise each thread of the gateway
    /// has one, in turn, for itself, its workers and all their contexts: that takes half
    /// the time or less (Linux)
    #[arg(long)]
    no_pin: bool,
    /// Requests that may wait for a worker, per chain; more get 429
    #[arg(long, default_value_t = 64, value_name = "N")]
    queue: usize,
    /// The longest that a request may take; a client asks for less by the
    /// header Request-Timeout
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = time)]
    timeout: Duration,
    /// The longest that a request's head may take to arrive
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time)]
    header_timeout: Duration,
    /// The longest that requests go on after SIGTERM
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time)]
    drain: Duration,
    /// Connections at once; more wait
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Connections from one address at once (of IPv6, from one /64); others are closed.
    /// A proxy before this server has one address
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    address_connections: u32,
    /// Requests from one address at once; others get 429
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    address_requests: u32,
    /// Memory for the bodies of all requests, and of answers that have not been taken yet,
    /// at once; others get 503. A body that is alone may be larger, if its chain takes it
    #[arg(long, default_value = "256MiB", value_name = "SIZE", value_parser = size)]
    body_bytes: u64,
    /// The longest head of a request, 8KiB to 1MiB; longer ones get 431
    #[arg(long, default_value = "32KiB", value_name = "SIZE", value_parser = head_size)]
    head_bytes: u32,
    /// How long a connection of HTTP/2 may be without a request; whoever takes nothing of an
    /// answer for twice as long is hung up on, too
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = time)]
    idle_timeout: Duration,
    /// Crashes of a chain in a row after which it is left alone for a while
    /// (503), so that it does not wear the machine out; 0: never
    #[arg(long, default_value_t = 10, value_name = "N")]
    circuit: u32,
    /// How long it is left alone before one request may try again
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = time)]
    circuit_pause: Duration,
    /// Read the chain file, and the certificate, again on SIGHUP alone, not when it, a
    /// source, a library or a secret it names has changed
    #[arg(long)]
    no_watch: bool,
    /// Send spans to an OpenTelemetry collector, by OTLP over HTTP
    /// [env: OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// Join other machines by this NATS server: offer the chains there, and reach
    /// the steps that are marked `remote` [env: NATS_URL]
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// Credentials for it
    #[arg(long, value_name = "FILE")]
    nats_creds: Option<PathBuf>,
    /// The queue group whose nodes share the requests
    #[arg(long, value_name = "NAME", default_value = "q")]
    nats_queue: String,
    /// What its subjects begin with, as in lwc.chains.NAME
    #[arg(long, value_name = "SUBJECT", default_value = "lwc")]
    nats_prefix: String,
    /// Take work from this JetStream stream too, each message at least once:
    /// subjects as lwc.work.NAME
    #[arg(long, value_name = "STREAM")]
    nats_stream: Option<String>,
    /// What its clients' inboxes begin with: answers go there and nowhere else, as a node
    /// may publish where its clients may not. May be given several times
    #[arg(long, value_name = "SUBJECT", default_value = "_INBOX")]
    nats_inbox: Vec<String>,
    /// Serve each function alone too, at /functions/NAME. A client can
    /// then leave out the steps before it: a signer without its verifier
    #[arg(long)]
    functions: bool,
    /// Serve although the user is root, which is refused otherwise: who breaks out of a
    /// function then has the machine [env: LWC_ALLOW_ROOT=1]
    #[arg(long)]
    allow_root: bool,
}

/// Signatures of the Functions Framework contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Signature {
    /// Any request
    Http,
    /// CloudEvents alone
    Cloudevent,
    /// Any request; the function's code unmarshals it
    Typed,
}

/// What is said on the command line, else by a variable. Read here and not by
/// clap, which would copy the variables of this command into the memory of
/// every other: a `run` has no use for the password in NATS_URL, its functions
/// may.
struct FromEnvironment {
    target: Option<Target>,
    otlp: Option<String>,
    nats: Option<NatsOptions>,
}

/// One without a value is none, as OpenTelemetry and shells have it.
fn variable(name: &str) -> Result<Option<String>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|v| !v.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(e) => Err(format!("{name}: {e}")),
    }
}

impl FromEnvironment {
    fn of(args: &ServeArgs) -> Result<Self, String> {
        let or = |given: &Option<String>, name| match given {
            Some(given) => Ok(Some(given.clone())),
            None => variable(name),
        };
        let signature = match args.signature_type {
            Some(given) => Some(given),
            None => variable("FUNCTION_SIGNATURE_TYPE")?
                .map(|v| {
                    Signature::from_str(&v, false).map_err(|_| {
                        format!("FUNCTION_SIGNATURE_TYPE={v:?}: give http, cloudevent or typed")
                    })
                })
                .transpose()?,
        };
        let target = match (or(&args.target, "FUNCTION_TARGET")?, signature) {
            (Some(name), signature) => Some(Target {
                name,
                events: signature == Some(Signature::Cloudevent),
            }),
            (None, Some(_)) if args.signature_type.is_some() => {
                return Err(
                    "a signature type is a target's: say --target NAME or FUNCTION_TARGET".into(),
                );
            }
            // An environment may say it of other programs.
            (None, _) => None,
        };
        let nats = match or(&args.nats, "NATS_URL")? {
            Some(url) => Some(NatsOptions {
                url,
                credentials: args.nats_creds.clone(),
                queue: args.nats_queue.clone(),
                prefix: args.nats_prefix.clone(),
                stream: args.nats_stream.clone(),
                inboxes: args.nats_inbox.clone(),
            }),
            None if args.nats_creds.is_some() || args.nats_stream.is_some() => {
                return Err(
                    "--nats-creds and --nats-stream are of a server: say --nats URL or NATS_URL"
                        .into(),
                );
            }
            None => None,
        };
        Ok(Self {
            target,
            otlp: or(&args.otlp, "OTEL_EXPORTER_OTLP_ENDPOINT")?,
            nats,
        })
    }
}

impl ServeArgs {
    /// Where to listen: what is said, and what was handed over; else as the contract has
    /// it for a target, else nowhere that others reach.
    fn places(
        &self,
        given: Vec<Given>,
        has_target: bool,
    ) -> Result<(Vec<Listen>, Vec<Listen>), String> {
        let all = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let said = self
            .listen
            .iter()
            .chain(&self.admin)
            .map(|at| at.listen(self.socket_mode));
        let mut listen: Vec<Listen> = said.collect();
        let mut admin = listen.split_off(self.listen.len());
        listen.extend(self.port.map(|port| Listen::Address(all(port))));
        for given in given {
            match given.is_admin {
                true => admin.push(Listen::Given(given)),
                false => listen.push(Listen::Given(given)),
            }
        }
        if listen.is_empty() {
            listen.push(Listen::Address(
                match variable("PORT")?.filter(|_| has_target) {
                    Some(port) => port
                        .parse()
                        .map(all)
                        .map_err(|_| format!("PORT={port:?} is no port; give 0 to 65535"))?,
                    None if has_target => all(8080),
                    None => SocketAddr::from(([127, 0, 0, 1], 8080)),
                },
            ));
        }
        Ok((listen, admin))
    }
}

/// Where to listen, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    Address(SocketAddr),
    /// A socket file.
    File(PathBuf),
}

impl At {
    pub(super) fn listen(&self, mode: u32) -> Listen {
        match self {
            Self::Address(address) => Listen::Address(*address),
            Self::File(path) => Listen::File {
                path: path.clone(),
                mode,
            },
        }
    }
}

/// What to listen on, by its number, its name, its port alone, or a socket file's path. Of
/// a name with several addresses the first of IPv4 counts, else the first.
pub(super) fn address(text: &str) -> Result<At, String> {
    match text.strip_prefix("unix:") {
        Some("" | "/") => return Err("write unix: and the path of the socket".into()),
        Some(name) if name.starts_with('@') => {
            return Err("everybody may connect to an abstract name; write unix: and a path".into());
        }
        Some(path) => return Ok(At::File(path.into())),
        None => {}
    }
    if let Ok(address) = text.parse() {
        return Ok(At::Address(address));
    }
    if let Some(port) = text.strip_prefix(':').and_then(|p| p.parse::<u16>().ok()) {
        return Ok(At::Address(SocketAddr::from(([0, 0, 0, 0], port))));
    }
    let found = text.to_socket_addrs();
    let found: Vec<SocketAddr> = found
        .map_err(|e| format!("{e}; write 127.0.0.1:8080, localhost:8080, :8080 or unix:PATH"))?
        .collect();
    let v4 = found.iter().find(|a| a.is_ipv4());
    let first = v4.or(found.first()).copied();
    first
        .map(At::Address)
        .ok_or_else(|| "this name has no address".into())
}

/// Permissions by which at least its owner can connect.
fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let mode = mode.filter(|m| digits && *m <= 0o777 && m & 0o200 != 0);
    mode.ok_or_else(|| "write 0600, 0660 or 0666; who may write may connect".into())
}

fn size(text: &str) -> Result<u64, String> {
    let size = text.parse::<bytesize::ByteSize>();
    size.map(|s| s.0).map_err(|e| format!("{e}; write 64MiB"))
}

/// hyper has no smaller buffers.
fn head_size(text: &str) -> Result<u32, String> {
    let size = u32::try_from(size(text)?).ok();
    let fits = size.filter(|s| (8 << 10..=1 << 20).contains(s));
    fits.ok_or_else(|| "8KiB to 1MiB".into())
}

/// A duration that a clock can take.
fn time(text: &str) -> Result<Duration, String> {
    // A number alone is of seconds, as in the header Request-Timeout.
    let d = match text.parse::<f64>().ok() {
        Some(seconds) => Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string()),
        None => humantime::parse_duration(text).map_err(|e| format!("{e}; write 10s, 250ms, 1m")),
    }?;
    if d.is_zero() || d > Duration::from_secs(86_400) {
        return Err("above zero, a day at most".into());
    }
    Ok(d)
}

pub(super) fn serve(args: &ServeArgs, verbose: u8, format: Format) -> Result<(), u8> {
    // SAFETY: no thread has been started, and nothing opened that stays open.
    let handed_over = unsafe { Given::take() };
    let mut handed_over = handed_over.map_err(|e| {
        complain(&e);
        exit::USAGE
    })?;
    keep_from_programs();
    if std::process::id() == 1 {
        handed_over = be_the_first(handed_over)?;
    }
    let failed = |e: &dyn std::fmt::Display| {
        complain(e);
        exit::START
    };
    let usage = |e: String| {
        complain(&e);
        exit::USAGE
    };
    super::refuse_root(args.allow_root)?;
    let given = FromEnvironment::of(args).map_err(usage)?;
    let has_target = given.target.is_some();
    let (listen, admin) = args.places(handed_over, has_target).map_err(usage)?;
    // Before the first listener: the usual codes for a bad file. It is what is served.
    let first = Loaded::by(&args.file, |read| {
        prepare_by(&args.file, |file| {
            read(file);
            build_and_show(file)
        })
    })?;
    super::warn_of_root();
    lwc::backend().map_err(|e| failed(&e))?;
    title::set("lwc:gateway");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.workers.map_or(cores, usize::from);
    if let Some(most) = args.workers_max.filter(|&n| usize::from(n) < workers) {
        return Err(usage(format!(
            "--workers-max {most} is less than the {workers} that there are from the start; say --workers {most}, too, or more"
        )));
    }
    let mut worker_options = vec!["-v".to_owned(); verbose.into()];
    if format == Format::Json {
        worker_options.push("--log-format=json".into());
    }
    let tls = args.tls_cert.clone().zip(args.tls_key.clone());
    let tls = tls.map(|(cert, key)| TlsOptions { cert, key });
    let scheme = if tls.is_some() { "https" } else { "http" };
    let options = Options {
        file: args.file.clone(),
        listen,
        tls,
        admin,
        admin_hosts: args
            .admin_host
            .iter()
            .map(|h| h.to_ascii_lowercase())
            .collect(),
        target: given.target,
        workers,
        workers_max: args.workers_max.map_or(workers, usize::from),
        workers_idle: args.workers_idle,
        pin: !args.no_pin,
        queue: args.queue,
        timeout: args.timeout,
        header_timeout: args.header_timeout,
        drain: args.drain,
        connections: args.connections as usize,
        address_connections: args.address_connections as usize,
        address_requests: args.address_requests as usize,
        body_bytes: args.body_bytes,
        head_bytes: args.head_bytes,
        idle_timeout: args.idle_timeout,
        circuit: args.circuit,
        circuit_pause: args.circuit_pause,
        functions: args.functions,
        watch: !args.no_watch,
        nats: given.nats,
        otlp: given.otlp,
        worker_options,
    };
    let path = args.file.clone();
    let load = Arc::new(move |stop: &Stop, read: &mut dyn FnMut(&ChainFile)| {
        let build = |file: &ChainFile| {
            read(file);
            build_until(file, stop)
        };
        prepare_by(&path, build).map_err(|_| "it cannot be loaded and built; see above".to_owned())
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| failed(&e))?;
    let ready = |callers: &[Place], operators: &[Place]| tell_where(scheme, callers, operators);
    let served = runtime.block_on(gateway::serve(options, first, load, ready));
    // A reload may have been under way. Nobody waits for it: its compilers ended with
    // the gateway, and a file system that does not answer keeps no process.
    runtime.shutdown_timeout(LEAVE);
    match served {
        Ok(true) => Ok(()),
        Ok(false) => Err(exit::FAILED),
        Err(e) => Err(failed(&e)),
    }
}

/// Says on stdout where it is served, a line each; at addresses by this scheme, to
/// operators without TLS.
pub(super) fn tell_where(scheme: &str, callers: &[Place], operators: &[Place]) {
    let callers = callers.iter().map(|p| p.url(scheme));
    let callers = callers.map(|url| format!("listening on {url}\n"));
    let operators = operators.iter().map(|p| p.url("http"));
    let operators = operators.map(|url| format!("for operators: {url}\n"));
    let lines: String = callers.chain(operators).collect();
    // A closed stdout is no reason not to serve.
    let _ = write_out(printable_lines(lines).as_bytes());
}

/// The first process of a container has to wait for all whose parents have died, such as
/// the contexts of a dead worker. A server that waits for its own children alone leaves
/// them there for ever; one that waits for any takes their ends away from those who
/// started them. So the server is a child, and this process waits for all, hands signals
/// on and ends as the child does, which ends whatever is left. Returns in the child, which
/// alone has the sockets from then on.
fn be_the_first(sockets: Vec<Given>) -> Result<Vec<Given>, u8> {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::{ForkResult, Pid, fork};
    const HANDED_ON: [Signal; 6] = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ];
    let failed = |e: nix::Error| {
        complain(&format!("as the first process: {e}"));
        exit::START
    };
    let mut ours = SigSet::from_iter(HANDED_ON);
    ours.add(Signal::SIGCHLD);
    let mut before = SigSet::empty();
    // Blocked before there is a child: no signal is lost.
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ours), Some(&mut before)).map_err(failed)?;
    // SAFETY: no thread but this one has been started by now, so that the child finds no
    // lock held by one that it has not.
    let child = match unsafe { fork() }.map_err(failed)? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let unblocked = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
            return unblocked.map(|()| sockets).map_err(failed);
        }
    };
    drop(sockets);
    loop {
        let signal = ours.wait().map_err(failed)?;
        if signal != Signal::SIGCHLD {
            // It has not been waited for: the number is its own.
            let _ = kill(child, signal);
            continue;
        }
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == child => std::process::exit(code),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                    std::process::exit(128 + signal as i32)
                }
                Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => break,
                _ => {}
            }
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// Which of the workers it is
    #[arg(default_value_t = 0)]
    number: usize,
}

/// The hidden subcommand that `serve` starts its processes with.
pub(super) fn worker(args: &WorkerArgs) -> Result<(), u8> {
    crate::worker::run(args.number).map_err(|e| {
        complain(&format!("worker: {e}"));
        exit::FAILED
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_number_a_name_or_a_port_alone() {
        for (text, means) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            (":8080", "0.0.0.0:8080"),
        ] {
            let means = At::Address(means.parse().unwrap());
            assert_eq!(address(text).unwrap(), means, "{text}");
        }
        let localhost = address("localhost:8080").unwrap();
        assert!(matches!(localhost, At::Address(a) if a.ip().is_loopback()));
        for path in ["/run/x.sock", "x.sock"] {
            assert_eq!(
                address(&format!("unix:{path}")).unwrap(),
                At::File(path.into())
            );
        }
        for bad in [
            "",
            "nowhere",
            ":",
            ":x",
            ":65536",
            "8080",
            "127.0.0.1",
            "unix:",
            "unix:/",
            "unix:@name",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn permissions_are_octal_and_the_owners_too() {
        for (text, means) in [("0600", 0o600), ("660", 0o660), ("0777", 0o777)] {
            assert_eq!(mode(text), Ok(means), "{text}");
        }
        for bad in ["", "0800", "1777", "0066", "+600", "-1", "rw", "0o600"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_alone_is_of_seconds() {
        for (text, millis) in [("5", 5000), ("0.25", 250), ("250ms", 250), ("1m", 60_000)] {
            assert_eq!(time(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for bad in ["", "0", "-1", "NaN", "inf", "1e9", "soon", "0s", "2d"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
