//! Running the binary as a user does.

#![allow(dead_code, unreachable_pub, missing_docs)] // each test uses its part

pub mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The repository.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The binary, with a cache that the tests share and nobody else.
pub fn orchestrator() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lwc-orchestrator"));
    command
        .env(
            "LWC_CACHE",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"),
        )
        .env_remove("LWC_BACKEND")
        .env_remove("RUST_LOG")
        // Tests may run as root.
        .env("LWC_ALLOW_ROOT", "1")
        .stdin(Stdio::null());
    command
}

/// A folder with a chain file and whatever else it needs.
pub struct Folder(tempfile::TempDir, bool);

impl Folder {
    pub fn new(chain: &str) -> Self {
        // One's own, as are secrets that are put into it.
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(own).tempdir();
        let folder = Self(folder.unwrap(), true);
        folder.write("chain.toml", chain);
        folder
    }
    /// The same, where the tests are built: not in the folder of temporary files, mostly.
    pub fn built(chain: &str) -> Self {
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        let folder = tempfile::Builder::new()
            .permissions(own)
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        let folder = Self(folder.unwrap(), true);
        folder.write("chain.toml", chain);
        folder
    }
    /// On Linux, from now on: where the system refuses what it takes to roll back in
    /// place, as some containers do; and it says whether it does so all the same.
    pub fn without_rollback(mut self) -> Self {
        self.1 = false;
        self
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }
    /// `run chain.toml` on these inputs.
    pub fn run(&self, options: &[&str], inputs: &[&str]) -> Output {
        self.command(options, inputs).output().unwrap()
    }
    /// `check chain.toml`, or another command that takes the file and no more.
    pub fn ask(&self, command: &str) -> Output {
        let mut program = orchestrator();
        program.arg(command).arg(self.path("chain.toml"));
        program.output().unwrap()
    }
    /// What came of each input, in one chain: the answers, the failures as JSON, and all
    /// that was said beside these.
    pub fn outcomes(
        &self,
        chain: &str,
        inputs: &[&str],
    ) -> (String, Vec<serde_json::Value>, String) {
        let out = self.run(&[chain, "--json"], inputs);
        let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
        let failures: Vec<serde_json::Value> = stderr
            .lines()
            .filter_map(|l| serde_json::from_str(l).ok())
            .collect();
        assert!(
            out.status.success() == failures.is_empty(),
            "{stdout} {stderr}"
        );
        #[cfg(target_os = "linux")]
        assert!(
            self.1 || !stderr.contains("rollback in place, by"),
            "it was refused: {stderr}"
        );
        (stdout, failures, stderr)
    }
    /// The same, which must end within so much time.
    pub fn run_within(&self, limit: Duration, options: &[&str], inputs: &[&str]) -> Output {
        let mut command = self.command(options, inputs);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > limit {
                child.kill().unwrap();
                let out = child.wait_with_output().unwrap();
                let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
                panic!("{inputs:?}: still running after {limit:?}: {stdout} {stderr}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait_with_output().unwrap()
    }
    fn command(&self, options: &[&str], inputs: &[&str]) -> Command {
        let mut command = orchestrator();
        if !self.1 {
            #[cfg(target_os = "linux")]
            refuse_ptrace(&mut command);
            command.arg("-v");
        }
        command
            .arg("run")
            .arg(self.path("chain.toml"))
            .args(options);
        for (i, text) in inputs.iter().enumerate() {
            let path = self.write(&format!("input{i}"), text);
            command.arg("--input").arg(path);
        }
        command
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A filter of system calls that the program has from its beginning: without this one
/// nothing is rolled back in place, by whichever means. (Without userfaultfd(2) it is
/// on kernels before 6.7, by soft-dirty bits.)
#[cfg(target_os = "linux")]
fn refuse_ptrace(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let step = |code: u32, k: u32, jt, jf| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let filter = move || {
        let mut filter = [
            // The number of the call.
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                libc::SYS_ptrace as u32,
                0,
                1,
            ),
            step(
                libc::BPF_RET | libc::BPF_K,
                libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
                0,
                0,
            ),
            step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
        ];
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: plain numbers, and a program of the length that it says, which the
        // kernel copies.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
                | libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                )
        };
        match done {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: two system calls; nothing is allocated.
    unsafe { command.pre_exec(filter) };
}
