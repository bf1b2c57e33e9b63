//! Property tests: random specifiers and random sequences of calls against a
//! model of who can see what.
//!
//! Each sequence runs in a process of its own (see the harness), made anew by
//! its seed, which a failure prints:
//!
//! ```sh
//! LWC_TESTS_SEED=0x1234 cargo test -p lwc-tests --test properties
//! LWC_TESTS_RUNS=1000 cargo test -p lwc-tests --test properties
//! ```

mod model;
mod plan;
mod world;

use lwc_tests::cases;
use lwc_tests::harness::{self, Case};
use plan::Plan;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::process::{Command, ExitCode};

const CASES: &[Case] = cases![
    sequences_agree_with_the_model => Well within 300,
    the_model_notices_what_is_wrong,
];

/// In the environment of a process that runs one plan.
const PLAN: &str = "LWC_TESTS_PLAN";

fn main() -> ExitCode {
    if let Ok(plan) = std::env::var(PLAN) {
        world::run(&Plan::parse(&plan));
        return ExitCode::SUCCESS;
    }
    harness::main(&[CASES])
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| {
        let digits = text.trim_start_matches("0x");
        let radix = if digits.len() < text.len() { 16 } else { 10 };
        u64::from_str_radix(digits, radix).expect("a number")
    })
}

/// Runs a plan in a process of its own; what it said, if it failed.
fn failure_of(plan: &Plan) -> Option<String> {
    let exe = std::env::current_exe().expect("this binary");
    let out = Command::new(exe)
        .env(PLAN, plan.to_string())
        .output()
        .expect("running a plan");
    (!out.status.success())
        .then(|| format!("{}\n{}", out.status, String::from_utf8_lossy(&out.stderr)))
}

fn sequences_agree_with_the_model() {
    let fixed = std::env::var_os("LWC_TESTS_SEED").is_some();
    let first = number("LWC_TESTS_SEED", 0x1acc_0de5);
    let runs = if fixed {
        1
    } else {
        number("LWC_TESTS_RUNS", 200)
    };
    for seed in first..first + runs {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let mut tree = plan::any().new_tree(&mut runner).expect("a plan");
        let Some(mut why) = failure_of(&tree.current()) else {
            continue;
        };
        // Made as small as it gets, within reason.
        let mut smallest = tree.current();
        let mut steps = 0;
        let mut went = tree.simplify();
        while went && steps < 200 {
            steps += 1;
            let plan = tree.current();
            went = match failure_of(&plan) {
                Some(text) => {
                    (why, smallest) = (text, plan);
                    tree.simplify()
                }
                None => tree.complicate(),
            };
        }
        panic!("LWC_TESTS_SEED={seed:#x} fails; at its smallest:\n{smallest}\n{why}");
    }
}

/// A test of the test: with a model that is made to err the run must fail.
fn the_model_notices_what_is_wrong() {
    let good = Plan::parse("create 0 1 5 | write 0 1 9 | visit 1");
    assert_eq!(failure_of(&good), None);
    let wrong = Plan::parse("create 0 1 5 | write 0 1 9 | forget 0 1 | visit 1 | visit 0");
    assert!(failure_of(&wrong).is_some());
}
