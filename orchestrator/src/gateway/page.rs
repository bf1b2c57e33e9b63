//! The page at `/` and the figures it shows. One file, nothing from elsewhere.

use super::Gateway;
use super::metrics::EdgeFigures;
use super::notes::Noted;
use crate::chain_file::{CallTree, ChainId, FunctionName};
use crate::version::VERSION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

/// The page, as it is sent.
pub(super) const PAGE: &str = include_str!("page.html");

/// Nothing runs on the page but its own script and style, and it reaches
/// nobody but this server.
pub(super) fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        let hash = |tag: &str| {
            let (_, rest) = PAGE.split_once(&format!("<{tag}>")).unwrap_or_default();
            let (text, _) = rest.split_once(&format!("</{tag}>")).unwrap_or_default();
            BASE64.encode(Sha256::digest(text))
        };
        format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash("script"),
            hash("style")
        )
    })
}

/// `/status.json`. Names of secrets are not here: operators know the file.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    /// Seconds since the start.
    uptime: u64,
    backend: String,
    draining: bool,
    workers: usize,
    busy: usize,
    in_flight: usize,
    contexts: u64,
    private_bytes: u64,
    chains: Vec<ChainStatus>,
    /// On a developer's machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<Noted>,
}

#[derive(Debug, Serialize)]
struct ChainStatus {
    name: ChainId,
    isolation: crate::chain_file::Isolation,
    region: u64,
    queue: usize,
    circuit_open: bool,
    invocations: u64,
    errors: u64,
    /// Seconds, from the histogram's buckets; none before the first.
    p50: Option<f64>,
    p99: Option<f64>,
    steps: Vec<StepStatus>,
    /// The functions of the tree of calls: the steps, and those that are called.
    contexts: Vec<FunctionName>,
    calls: Vec<CallStatus>,
}

/// The calls of one function by another: two places in `contexts`.
#[derive(Debug, Serialize)]
struct CallStatus {
    caller: usize,
    callee: usize,
    calls: u64,
    errors: u64,
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize)]
struct StepStatus {
    function: FunctionName,
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Status {
    pub(super) fn of(gateway: &Gateway) -> Self {
        let now = gateway.now();
        let generation = gateway.generation();
        let figures = gateway.metrics.lock();
        let (contexts, private_bytes) = figures.held();
        let chains = generation.file.chains.values();
        let chains = chains.map(|chain| {
            let name = &chain.name;
            let (invocations, errors) = figures.answered(name);
            let quantile = |q| figures.latency_quantile(name, q);
            let steps = chain.steps.iter().enumerate().map(|(i, function)| {
                let quantile = |q| figures.hop_quantile(name, i + 1, function, q);
                StepStatus {
                    function: function.clone(),
                    p50: quantile(0.5),
                    p99: quantile(0.99),
                }
            });
            let tree = CallTree::of(&generation.file, name);
            let calls = tree.edges.iter().map(|edge| {
                let function = |node: usize| &tree.nodes[node].function;
                let found = figures.edge(name, function(edge.caller), function(edge.callee));
                let (calls, errors) = found.map_or((0, 0), EdgeFigures::counts);
                CallStatus {
                    caller: edge.caller,
                    callee: edge.callee,
                    calls,
                    errors,
                    p50: found.and_then(|f| f.quantile(0.5)),
                    p99: found.and_then(|f| f.quantile(0.99)),
                }
            });
            let calls = calls.collect();
            ChainStatus {
                name: name.clone(),
                isolation: chain.isolation,
                region: chain.region,
                queue: now.queues.iter().find(|q| q.0 == *name).map_or(0, |q| q.1),
                circuit_open: now.circuits.get(name).copied().unwrap_or(false),
                invocations,
                errors,
                p50: quantile(0.5),
                p99: quantile(0.99),
                steps: steps.collect(),
                contexts: tree.nodes.into_iter().map(|n| n.function).collect(),
                calls,
            }
        });
        Self {
            version: VERSION,
            uptime: figures.uptime().as_secs(),
            chains: chains.collect(),
            backend: now.backend.clone(),
            draining: now.draining,
            workers: now.workers,
            busy: now.busy,
            in_flight: now.in_flight,
            contexts,
            private_bytes,
            dev: gateway.notes.as_ref().map(|n| n.noted()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_page_as_it_is() {
        assert_eq!(PAGE.matches("<script>").count(), 1);
        assert_eq!(PAGE.matches("<style>").count(), 1);
        for elsewhere in ["http://", "https://", "src=", "@import", "innerHTML"] {
            assert!(!PAGE.contains(elsewhere), "{elsewhere}");
        }
        // SHA-256 in base64 has 44 characters; that of nothing begins so.
        assert_eq!(policy().matches("'sha256-").count(), 2);
        assert!(!policy().contains("47DEQpj8HBSa"), "{}", policy());
    }
}
