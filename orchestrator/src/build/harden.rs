//! `harden = "bounds"`: checks that a compiler puts into a function's own code.
//!
//! A compiler that does not know a flag is asked once, by a program that says what
//! it must have; what came of it is kept beside the objects.

use super::compiler::{Compiler, Language};
use std::process::Command;

/// A protection: ways to ask for it, the best first.
pub(super) struct Protection {
    pub(super) name: &'static str,
    ways: &'static [&'static [&'static str]],
    /// What a program sees of it, if it does: else the compiler is believed.
    proof: &'static str,
}

/// The undefined behaviour that is found: no unaligned access, which works on the
/// processors that there are and which much code relies on.
const CHECKS: &str = "-fsanitize=bounds,object-size,shift,integer-divide-by-zero,signed-integer-overflow,float-cast-overflow,vla-bound,null,pointer-overflow,return,unreachable,bool,enum";

const FORTIFIED: &str = "#if !(__USE_FORTIFY_LEVEL > 0) && !(__SSP_FORTIFY_LEVEL > 0)\n#error the C library has no checks\n#endif\n";

const PROTECTIONS: [Protection; 5] = [
    Protection {
        name: "checked calls of the C library",
        ways: &[
            &["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"],
            &["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"],
        ],
        proof: FORTIFIED,
    },
    Protection {
        name: "stack protector",
        ways: &[&["-fstack-protector-strong", "-fstack-clash-protection"]],
        proof: "",
    },
    Protection {
        name: "trapping checks of bounds and integers",
        // Without a way to trap they would want a library of their own.
        ways: &[
            &[CHECKS, "-fsanitize-trap=all"],
            &[CHECKS, "-fsanitize-undefined-trap-on-error"],
        ],
        proof: "",
    },
    Protection {
        name: "automatic initialisation",
        ways: &[&["-ftrivial-auto-var-init=zero"]],
        proof: "",
    },
    Protection {
        name: "control-flow protection",
        ways: &[&["-fcf-protection=full"], &["-mbranch-protection=standard"]],
        proof: "",
    },
];

/// Bounds of the standard library's containers; what it does not know is no error.
const OF_CPP: [&str; 2] = [
    "-D_GLIBCXX_ASSERTIONS",
    "-D_LIBCPP_HARDENING_MODE=_LIBCPP_HARDENING_MODE_EXTENSIVE",
];

/// A question to a compiler: the number of a protection, and of the way.
pub(super) type Question = (usize, usize);

/// All questions, and what each is asked by, but for where the object goes; the
/// program to compile is on standard input.
pub(super) fn questions(compiler: &Compiler) -> Vec<(Question, Command, String)> {
    let mut all = Vec::new();
    for (p, protection) in PROTECTIONS.iter().enumerate() {
        for (w, way) in protection.ways.iter().enumerate() {
            let mut command = compiler.command();
            command.args(["-O2", "-fPIC", "-Werror"]).args(*way).args([
                "-x",
                compiler.language.called(),
                "-c",
                "-",
            ]);
            let program = format!("#include <string.h>\n{}", protection.proof);
            all.push(((p, w), command, program));
        }
    }
    all
}

/// The flags, of the ways that a compiler has; or the protections that it has not.
pub(super) fn flags(language: Language, has: &[Question]) -> Result<Vec<String>, String> {
    let mut flags: Vec<&str> = Vec::new();
    let mut missing = Vec::new();
    for (p, protection) in PROTECTIONS.iter().enumerate() {
        let mut ways = protection.ways.iter().enumerate();
        match ways.find(|(w, _)| has.contains(&(p, *w))) {
            Some((_, way)) => flags.extend(*way),
            None => missing.push(format!(
                "{} ({})",
                protection.name,
                protection.ways[0].last().unwrap_or(&"")
            )),
        }
    }
    if !missing.is_empty() {
        return Err(missing.join(", "));
    }
    if language == Language::Cpp {
        flags.extend(OF_CPP);
    }
    Ok(flags.into_iter().map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_way_is_taken_and_what_is_missing_is_named() {
        let all: Vec<Question> = questions(&Compiler::of(Language::C))
            .into_iter()
            .map(|(question, _, _)| question)
            .collect();
        let best = flags(Language::C, &all).unwrap();
        assert!(best.contains(&"-D_FORTIFY_SOURCE=3".into()), "{best:?}");
        let older: Vec<Question> = all.iter().filter(|q| **q != (0, 0)).copied().collect();
        let older = flags(Language::Cpp, &older).unwrap();
        assert!(older.contains(&"-D_FORTIFY_SOURCE=2".into()), "{older:?}");
        assert!(older.contains(&"-D_GLIBCXX_ASSERTIONS".into()), "{older:?}");
        let lacking: Vec<Question> = all.into_iter().filter(|q| q.0 != 3).collect();
        assert_eq!(
            flags(Language::C, &lacking).unwrap_err(),
            "automatic initialisation (-ftrivial-auto-var-init=zero)"
        );
    }
}
