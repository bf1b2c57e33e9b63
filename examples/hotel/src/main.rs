//! The hotels without contexts, and who asks them. See README.md.

use clap::{Parser, Subcommand};
use lwc_hotel::client::check;
use lwc_hotel::data::Town;
use lwc_hotel::host::{Failure, libraries};
use lwc_hotel::server::{Processes, program};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The same functions as in chain.toml without contexts, and a client.
#[derive(Debug, Parser)]
#[command(name = "lwc-hotel")]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Draw the data anew, the same as before: the files that functions include
    Data {
        /// Where they go
        #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data"))]
        folder: PathBuf,
    },
    /// Ask a server, and check each answer by an independent computation
    Ask {
        /// Where it listens, as 127.0.0.1:8080
        address: SocketAddr,
        /// How many questions
        #[arg(default_value_t = 1000)]
        questions: usize,
        /// Where at the server
        #[arg(long, default_value = "/chains/hotel")]
        path: String,
    },
    /// Serve the functions merged into this process, without walls
    Plain {
        /// Where build.sh put the libraries
        folder: PathBuf,
    },
    /// Serve each function by a process of its own, which calls others over HTTP
    Each {
        /// Where build.sh put the libraries
        folder: PathBuf,
    },
    /// Serve one function; `each` starts these
    #[command(hide = true)]
    One {
        /// Where build.sh put the libraries
        folder: PathBuf,
        /// The function, and NAME=ADDRESS of whom it calls
        args: Vec<String>,
    },
}

fn run(command: Cmd) -> Result<(), Failure> {
    match command {
        Cmd::Data { folder } => {
            for (name, text) in Town::new().files() {
                std::fs::write(folder.join(name), text)?;
            }
            Ok(())
        }
        Cmd::Ask {
            address,
            questions,
            path,
        } => {
            let answers = check(address, &path, questions)?;
            let errors = answers.iter().filter(|(status, _)| *status != 200).count();
            println!("{questions} answers as expected, {errors} of them errors");
            Ok(())
        }
        Cmd::Plain { folder } => program(&libraries(&folder), &["plain".into()]),
        Cmd::One { folder, args } => {
            let args: Vec<String> = ["one".into()].into_iter().chain(args).collect();
            program(&libraries(&folder), &args)
        }
        Cmd::Each { folder } => each(folder),
    }
}

fn each(folder: PathBuf) -> Result<(), Failure> {
    let me = std::env::current_exe()?;
    let processes = Processes::one_each(&|args| {
        let mut command = Command::new(&me);
        command.arg(&args[0]).arg(&folder).args(&args[1..]);
        command
    })?;
    for (name, address) in &processes.addresses {
        println!("{name} listens on http://{address}");
    }
    loop {
        // They end with this process.
        std::thread::park();
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
