//! Servers: started, waited for, and ended with all that they started.

use crate::client::Target;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Server {
    child: Child,
    address: SocketAddr,
    /// Its files.
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    /// With so many workers, or as many as it has by itself.
    pub fn lwc(program: &str, isolation: &str, workers: Option<usize>) -> Result<Self, String> {
        let text = |e: std::io::Error| format!("{program}: {e}");
        let folder = tempfile::tempdir().map_err(text)?;
        let file = format!(
            "[functions.upper]\nsource = \"{HERE}/functions.c\"\n\
             [functions.reverse]\nsource = \"{HERE}/functions.c\"\n\
             [chains.one]\nsteps = [\"upper\"]\nisolation = \"{isolation}\"\n\
             [chains.three]\nsteps = [\"upper\", \"reverse\", \"upper\"]\n\
             isolation = \"{isolation}\"\n"
        );
        let path = folder.path().join("chain.toml");
        std::fs::write(&path, file).map_err(text)?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(workers.map(|n| format!("--workers={n}")))
            .env("RUST_LOG", "warn")
            .arg(&path)
            .stdout(Stdio::piped());
        let mut child = start(&mut command)?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line).map_err(text)?;
        }
        let address = line.trim().strip_prefix("listening on http://");
        match address.and_then(|a| a.parse().ok()) {
            Some(address) => Ok(Self {
                child,
                address,
                _folder: Some(folder),
            }),
            None => {
                end(&mut child);
                Err(format!("{program} serve does not listen; see above"))
            }
        }
    }

    /// An answer that is ready.
    pub fn fixed(program: &str) -> Result<Self, String> {
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["static", &port.to_string()]);
        Self::at(port, &mut command)
    }

    /// A handler of a C library in the process of a bare server.
    pub fn bare(program: &str, library: &str, function: &str) -> Result<Self, String> {
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["call", library, function, &port.to_string()]);
        Self::at(port, &mut command)
    }

    pub fn wasm(program: &str, function: &str) -> Result<Self, String> {
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["serve", function, &port.to_string()]);
        Self::at(port, &mut command)
    }

    pub fn node(modules: &str, function: &str) -> Result<Self, String> {
        let port = free_port()?;
        let main = "@google-cloud/functions-framework/build/src/main.js";
        let mut command = Command::new("node");
        command
            .arg(Path::new(modules).join(main))
            .arg(format!("--target={function}"))
            .arg(format!("--source={HERE}/functions.js"))
            .arg(format!("--port={port}"))
            .env("NODE_ENV", "production")
            .stdout(Stdio::null());
        Self::at(port, &mut command)
    }

    pub fn python(gunicorn: &str, function: &str) -> Result<Self, String> {
        let port = free_port()?;
        let mut command = Command::new(gunicorn);
        command
            .args(["--workers", "1", "--worker-class", "gthread"])
            .args(["--threads", "1", "--keep-alive", "60"])
            .args(["--log-level", "error", "--chdir", HERE])
            .arg("--bind")
            .arg(format!("127.0.0.1:{port}"))
            .arg(format!("functions:{function}"));
        Self::at(port, &mut command)
    }

    fn at(port: u16, command: &mut Command) -> Result<Self, String> {
        let mut server = Self {
            child: start(command)?,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            _folder: None,
        };
        let due = Instant::now() + TIMEOUT;
        while TcpStream::connect(server.address).is_err() {
            server.check()?;
            crate::stop::check()?;
            if Instant::now() > due {
                return Err("it does not listen".into());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(server)
    }

    pub fn target(&self, path: &str) -> Target {
        Target {
            address: self.address,
            path: path.to_owned(),
        }
    }

    /// The process that all of its processes descend from.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("it ended: {status}")),
            Err(e) => Err(e.to_string()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// In a process group of its own, to end it whole.
fn start(command: &mut Command) -> Result<Child, String> {
    let name = command.get_program().to_owned();
    command
        .process_group(0)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|e| format!("{}: {e}", name.display()))
}

fn end(child: &mut Child) {
    // SAFETY: a signal to the group that `start` made.
    unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
    let _ = child.wait();
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    Ok(listener.local_addr().map_err(|e| e.to_string())?.port())
}

/// Nanoseconds of a chain in wasmtime, without HTTP.
pub fn wasm_time(program: &str, len: usize, steps: &[&str]) -> Result<f64, String> {
    let mut command = Command::new(program);
    command.args(["time", &len.to_string()]).args(steps);
    nanoseconds(program, command)
}

/// Nanoseconds of an instance with so much memory that writes so many pages.
///
/// # Errors
/// As [`wasm_time`].
pub fn wasm_dirty(program: &str, mib: usize, pages: usize) -> Result<f64, String> {
    let mut command = Command::new(program);
    command.args(["dirty", &mib.to_string(), &pages.to_string()]);
    nanoseconds(program, command)
}

fn nanoseconds(program: &str, mut command: Command) -> Result<f64, String> {
    let out = command.output().map_err(|e| format!("{program}: {e}"))?;
    let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    said.parse()
        .map_err(|_| format!("{program}: {}", String::from_utf8_lossy(&out.stderr)))
}
