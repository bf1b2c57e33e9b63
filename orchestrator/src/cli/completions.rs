//! `completions`: what a shell can complete.

use super::{Cli, write_out};
use clap::{Args, Command, CommandFactory};
use clap_complete::{Shell, generate};

const AFTER: &str = "\
To have them in this session, or in each:
  bash  source <(lwc-orchestrator completions bash)
        lwc-orchestrator completions bash > ~/.local/share/bash-completion/completions/lwc-orchestrator
  zsh   lwc-orchestrator completions zsh > a folder of $fpath, as _lwc-orchestrator
  fish  lwc-orchestrator completions fish > ~/.config/fish/completions/lwc-orchestrator.fish";

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), u8> {
    let mut script = Vec::new();
    let mut command = visible(&Cli::command());
    let name = command.get_name().to_owned();
    generate(args.shell, &mut command, name, &mut script);
    write_out(&script)
}

/// A command as people see it. What is hidden the program says to itself alone, and
/// `generate` would offer it.
pub(super) fn visible(command: &Command) -> Command {
    let name = command.get_name().to_owned();
    let arguments = command.get_arguments().filter(|a| !a.is_hide_set());
    let below = command.get_subcommands().filter(|c| !c.is_hide_set());
    let mut seen = Command::new(name)
        .args(arguments.cloned())
        .subcommands(below.map(visible));
    if let Some(about) = command.get_about() {
        seen = seen.about(about.clone());
    }
    if let Some(version) = command.get_version() {
        seen = seen.version(version.to_owned());
    }
    seen
}
