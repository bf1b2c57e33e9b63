//! Spans for OpenTelemetry: one of an invocation, one of each hop, one of each call
//! of a function by another within the span of the one that made it, so that a
//! merged chain is as visible as separate services would be. Attributes follow
//! OpenTelemetry's FaaS conventions. Of calls there are the first 256 in an
//! invocation, whose own span has the number of all. A failed invocation has the hops up to the
//! one that failed, whose span says why; not where its worker is lost, which
//! alone knew their times. A function's rollback is a span of the same trace,
//! which begins when the answer is on its way.
//!
//! Spans are built when an invocation is over, from times that were measured
//! anyway, and handed to the SDK's batch processor: its queue is bounded, its
//! thread sends. A collector that is away costs spans, never a request.

use super::invocation::Call;
use super::metrics::Place;
use super::problem::{Problem, ProblemKind};
use super::queue::Answer;
use super::told::{Calls, Within};
use super::trace::Trace;
use crate::chain_file::FunctionName;
use crate::worker::frame::RollbackTiming;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use std::borrow::Cow;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// How the URL is given, for messages.
const OPTION: &str = "--otlp (OTEL_EXPORTER_OTLP_ENDPOINT)";
/// Spans that may wait to be sent; more are dropped.
const QUEUE: usize = 4096;
/// How often they are sent.
const EVERY: Duration = Duration::from_secs(1);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last ones may take at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Where spans go.
pub(super) struct Spans {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

/// What the spans are of. The SDK itself reads the variables, of which an empty one is
/// none; this name stands where they say none.
fn resource() -> Resource {
    let said = Resource::builder().build();
    let name = said.get(&opentelemetry::Key::from_static_str("service.name"));
    let name = name.map(|n| n.to_string());
    match name.filter(|n| !n.is_empty() && !n.starts_with("unknown_service")) {
        Some(_) => said,
        None => Resource::builder()
            .with_service_name("lwc-orchestrator")
            .build(),
    }
}

impl Spans {
    /// Sends to a collector's base URL, by OTLP over HTTP, in protobuf.
    ///
    /// # Errors
    /// The URL is none.
    pub(super) fn to(url: &str) -> Result<Self, String> {
        let endpoint = format!("{}/v1/traces", url.trim_end_matches('/'));
        // The URL may hold a password, and is not shown.
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        if scheme == "https" {
            return Err(format!(
                "{OPTION}: spans are sent without TLS, and this is an https:// URL; have a \
                 collector on this machine send them on by TLS and give http://127.0.0.1:4318, \
                 or give none"
            ));
        }
        if scheme != "http" {
            return Err(format!(
                "{OPTION}: it is no http:// URL; give http://HOST:4318 (OTLP over HTTP), or none"
            ));
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|e| format!("{OPTION}: {e}"))?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_scheduled_delay(EVERY)
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(config)
            .build();
        // Ours is the default's place: what OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES
        // say comes after it.
        processor.set_resource(&resource());
        let scope = InstrumentationScope::builder("lwc-orchestrator")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Self { processor, scope })
    }

    /// An invocation that has just ended.
    pub(super) fn invoked(
        &self,
        call: &Call<'_>,
        steps: &[FunctionName],
        result: &Result<Answer, Problem>,
        status: u16,
    ) {
        if !call.trace.is_sampled() {
            return;
        }
        let (begun, ended) = (call.since, SystemTime::now());
        let mut attributes = vec![
            KeyValue::new("faas.name", call.chain.to_string()),
            KeyValue::new("faas.invocation_id", call.id.clone()),
            KeyValue::new("faas.trigger", call.trigger),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        let state = match result {
            Ok(answer) => {
                let cold = answer.hops.iter().any(|h| h.copy > 0.0);
                attributes.push(KeyValue::new("faas.coldstart", cold));
                Status::Unset
            }
            Err(p) => {
                attributes.push(KeyValue::new("error.type", p.kind.as_str()));
                if let Some((step, function)) = &p.place {
                    attributes.push(KeyValue::new("lwc.step", *step as i64));
                    attributes.push(KeyValue::new("lwc.function", function.to_string()));
                }
                Status::error(p.detail.clone())
            }
        };
        let ran = match result {
            Ok(answer) => Some((answer.handed, &answer.hops, &answer.calls)),
            Err(p) => {
                let ran = p.timings.as_ref();
                ran.map(|ran| (ran.handed, &ran.hops, &ran.calls))
            }
        };
        let calls = ran.map_or(0, |(_, _, calls)| calls.count());
        if calls > 0 {
            attributes.push(KeyValue::new("lwc.calls", calls as i64));
        }
        let span = call.trace.span_id();
        self.end(
            &call.trace,
            span,
            call.trace.parent_id(),
            Cow::Owned(call.chain.to_string()),
            SpanKind::Server,
            (begun, ended),
            attributes,
            state,
        );
        let (Some((handed, hops, calls)), problem) = (ran, result.as_ref().err()) else {
            return;
        };
        let mut steps_spans = Vec::with_capacity(hops.len());
        for (i, (hop, function)) in hops.iter().zip(steps).enumerate() {
            let from = handed + Duration::from_secs_f64(hop.at / 1e6);
            let until = from + Duration::from_secs_f64(hop.run / 1e6);
            let mut attributes = vec![
                KeyValue::new("faas.name", function.to_string()),
                KeyValue::new("faas.invocation_id", call.id.clone()),
                KeyValue::new("faas.coldstart", hop.copy > 0.0),
                KeyValue::new("lwc.chain", call.chain.to_string()),
                KeyValue::new("lwc.step", i as i64 + 1),
            ];
            let to_blame = problem.filter(|p| p.place.as_ref().is_some_and(|p| p.0 == i + 1));
            let state = match to_blame {
                Some(p) => {
                    attributes.push(KeyValue::new("error.type", p.kind.as_str()));
                    Status::error(p.detail.clone())
                }
                None => Status::Unset,
            };
            let own = super::trace::new_span();
            self.end(
                &call.trace,
                &own,
                Some(span),
                Cow::Owned(function.to_string()),
                SpanKind::Internal,
                (from, until),
                attributes,
                state,
            );
            steps_spans.push((own, function));
        }
        self.called(call, handed, &steps_spans, calls);
    }

    /// The calls between functions of an invocation, below its steps' spans.
    fn called(
        &self,
        call: &Call<'_>,
        handed: SystemTime,
        steps: &[(String, &FunctionName)],
        calls: &Calls,
    ) {
        let mut spans: Vec<(String, &FunctionName)> = Vec::with_capacity(calls.spans.len());
        for made in &calls.spans {
            let within = match made.within {
                Within::Step(step) => steps.get(step),
                Within::Call(other) => spans.get(other),
            };
            // Each is told after the one that it was made in, and its step's.
            let Some((parent, caller)) = within else {
                return;
            };
            let from = handed + made.at;
            let mut attributes = vec![
                KeyValue::new("faas.name", made.callee.to_string()),
                KeyValue::new("faas.invocation_id", call.id.clone()),
                KeyValue::new("lwc.chain", call.chain.to_string()),
                KeyValue::new("lwc.caller", caller.to_string()),
            ];
            let state = match made.failed {
                Some(kind) => {
                    let kind = ProblemKind::from(kind).as_str();
                    attributes.push(KeyValue::new("error.type", kind));
                    Status::error(kind)
                }
                None => Status::Unset,
            };
            let own = super::trace::new_span();
            self.end(
                &call.trace,
                &own,
                Some(parent),
                Cow::Owned(made.callee.to_string()),
                SpanKind::Internal,
                (from, from + made.run),
                attributes,
                state,
            );
            spans.push((own, &made.callee));
        }
    }

    /// A function's context that was rolled back after an invocation.
    pub(super) fn rolled_back(
        &self,
        trace: &Trace,
        invocation: &str,
        (chain, step, function): Place<'_>,
        handed: SystemTime,
        rollback: &RollbackTiming,
    ) {
        if !trace.is_sampled() {
            return;
        }
        let from = handed + Duration::from_secs_f64(rollback.at / 1e6);
        let until = from + Duration::from_secs_f64(rollback.took / 1e6);
        let mut attributes = vec![
            KeyValue::new("faas.name", function.to_string()),
            KeyValue::new("faas.invocation_id", invocation.to_owned()),
            KeyValue::new("lwc.chain", chain.to_string()),
            KeyValue::new("lwc.rollback.way", rollback.way.as_str()),
        ];
        if let Some(step) = step {
            attributes.push(KeyValue::new("lwc.step", step as i64));
        }
        if let Some(pages) = rollback.pages {
            attributes.push(KeyValue::new("lwc.rollback.pages", pages as i64));
        }
        self.end(
            trace,
            &super::trace::new_span(),
            Some(trace.span_id()),
            Cow::Owned(format!("roll back {function}")),
            SpanKind::Internal,
            (from, until),
            attributes,
            Status::Unset,
        );
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a span")]
    fn end(
        &self,
        trace: &Trace,
        span: &str,
        parent: Option<&str>,
        name: Cow<'static, str>,
        span_kind: SpanKind,
        (start_time, end_time): (SystemTime, SystemTime),
        attributes: Vec<KeyValue>,
        status: Status,
    ) {
        let id = |hex: &str| SpanId::from_hex(hex).unwrap_or(SpanId::INVALID);
        let state = TraceState::from_str(trace.state()).unwrap_or_default();
        let whole = TraceId::from_hex(trace.trace_id()).unwrap_or(TraceId::INVALID);
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(whole, id(span), TraceFlags::SAMPLED, false, state),
            parent_span_id: parent.map_or(SpanId::INVALID, id),
            parent_span_is_remote: span_kind == SpanKind::Server,
            span_kind,
            name,
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        });
    }

    /// Sends what is left.
    pub(super) fn close(&self) {
        if let Err(e) = self.processor.shutdown_with_timeout(STOP_TIMEOUT) {
            log::warn!("the last spans are lost: {e}");
        }
    }
}
