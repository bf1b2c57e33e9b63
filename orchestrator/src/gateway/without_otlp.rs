//! In the place of `otlp.rs` where the feature `otlp` is off: there are no spans,
//! and a start that asks for them fails and says why.

use super::invocation::Call;
use super::metrics::Place;
use super::problem::Problem;
use super::queue::Answer;
use super::trace::Trace;
use crate::chain_file::FunctionName;
use crate::worker::frame::RollbackTiming;
use std::time::SystemTime;

/// Where spans go: nowhere.
pub(super) enum Spans {}

impl Spans {
    /// # Errors
    /// Always.
    pub(super) fn to(_: &str) -> Result<Self, String> {
        Err(
            "--otlp (OTEL_EXPORTER_OTLP_ENDPOINT): this program was built without \
             OpenTelemetry; build it with --features otlp"
                .into(),
        )
    }

    pub(super) fn invoked(
        &self,
        _: &Call<'_>,
        _: &[FunctionName],
        _: &Result<Answer, Problem>,
        _: u16,
    ) {
        match *self {}
    }

    pub(super) fn rolled_back(
        &self,
        _: &Trace,
        _: &str,
        _: Place<'_>,
        _: SystemTime,
        _: &RollbackTiming,
    ) {
        match *self {}
    }

    pub(super) fn close(&self) {
        match *self {}
    }
}
