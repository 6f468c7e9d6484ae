//! Figures for Prometheus, at `/metrics` of a port of this machine. docs/reference/metrics.md lists them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeMetric, MetricEncoder, NoLabelSet, text::encode,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;
use tokio::sync::Semaphore;

use anemia_bundle::Verdict;
use anemia_vision::Rejection;

use crate::board::{BrokerStatus, CameraStatus, EngineStatus};
use crate::figures::Stage;
use crate::machine;
use crate::port::{self, Door};
use crate::publish::telemetry::Sources;
use crate::publish::{CLOCK_IS_SET, Stock};

/// Connections at the same time. One Prometheus needs one.
const CONNECTIONS: usize = 20;

/// Opens the port.
pub fn open(address: SocketAddr) -> Result<Door, String> {
    Door::open("metrics.listen", address, None)
}

/// Answers for ever.
pub async fn serve(door: Door, sources: Sources) {
    let router = Router::new().route("/metrics", get(answer)).with_state(sources);
    // A website in a browser on this machine can have its name point here. It is then the name that it asks by.
    let router = router.layer(middleware::from_fn(only_by_address));
    port::serve(door, router, Arc::new(Semaphore::new(CONNECTIONS))).await;
}

async fn only_by_address(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    let is_address = |name: &str| name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if host.is_some_and(|host| is_address(host.host())) {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, "ask by an address, or by localhost\n").into_response()
    }
}

async fn answer(State(sources): State<Sources>) -> Response {
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        // A disk that does not answer shows in the state; the other figures are still right. Zeros would be none: a counter that
        // falls is taken for one that began again.
        let stock = sources.outbox.stock().ok();
        let mut registry = Registry::with_prefix("anemiad");
        registry.register_collector(Box::new(Kiosk { sources, stock }));
        encode(&mut text, &registry).map(|()| text)
    });
    match text.await {
        Ok(Ok(text)) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[derive(Debug)]
struct Kiosk {
    sources: Sources,
    stock: Option<Stock>,
}

impl Collector for Kiosk {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (board, figures) = (&self.sources.board, self.sources.board.figures());
        let state = board.watch().borrow().clone();
        let out = &mut encoder;

        let build = [("version", env!("CARGO_PKG_VERSION"))];
        out.encode_descriptor("build", "The program", None, MetricType::Info)?.encode_info(&build)?;
        let precision = state.model.precision.to_string();
        let model = [
            ("name", state.model.name.as_str()),
            ("version", &state.model.version),
            ("precision", &precision),
            ("engine", &state.model.engine),
            ("sha256", &state.model.sha256),
        ];
        out.encode_descriptor("model", "What judges", None, MetricType::Info)?.encode_info(&model)?;

        let mut frames =
            out.encode_descriptor("frames", "Frames, by what became of them", None, MetricType::Counter)?;
        let dropped = self.sources.slot.dropped();
        let kinds = [
            ("captured", figures.captured.get()),
            ("analysed", figures.analysed.get()),
            ("dropped", dropped),
            ("missed", figures.missed.get()),
            ("damaged", figures.damaged.get()),
            ("late", figures.late.get()),
        ];
        for (kind, count) in kinds {
            counter(frames.encode_family(&[("kind", kind)])?, count)?;
        }
        let mut rejected =
            out.encode_descriptor("frames_rejected", "Analysed frames without a verdict", None, MetricType::Counter)?;
        for reason in Rejection::ALL {
            let count = figures.rejected[reason as usize].get();
            counter(rejected.encode_family(&[("reason", reason.words().0)])?, count)?;
        }
        let help = "Time that a frame took in each stage";
        let mut stages = out.encode_descriptor("stage", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for stage in Stage::ALL {
            let histogram = &figures.stages[stage as usize].histogram;
            histogram.encode(stages.encode_family(&[("stage", stage.name())])?)?;
        }
        let mut exams =
            out.encode_descriptor("exams", "Exams that came to an end, by verdict", None, MetricType::Counter)?;
        for verdict in Verdict::ALL {
            let count = figures.exams[verdict as usize].get();
            counter(exams.encode_family(&[("verdict", verdict.as_str())])?, count)?;
        }

        statuses(out, "camera_status", "The camera: 1 at its status", &CameraStatus::ALL, state.camera.status)?;
        statuses(out, "engine_status", "The network: 1 at its status", &EngineStatus::ALL, state.engine.status)?;
        statuses(out, "broker_status", "The broker: 1 at its status", &BrokerStatus::ALL, state.broker.status)?;

        if let Some(stock) = &self.stock {
            outbox(out, stock)?;
        }

        let help = "Temperature of a thermal zone";
        let mut zones = out.encode_descriptor("temperature", help, Some(&Unit::Celsius), MetricType::Gauge)?;
        for (zone, degrees) in machine::temperatures() {
            zones.encode_family(&[("zone", zone.as_str())])?.encode_gauge(&degrees)?;
        }
        let help = "How far a cooling device is on; 0 is off, and a processor that is held back is one";
        let mut cooling = out.encode_descriptor("cooling_state", help, None, MetricType::Gauge)?;
        for (device, state) in machine::cooling() {
            cooling.encode_family(&[("device", device.as_str())])?.encode_gauge(&(state as i64))?;
        }
        let machine::Speed { power_mode, gpu_hz } = machine::speed();
        if let Some(mode) = power_mode {
            gauge(out, "power_mode", "Power mode of a Jetson (nvpmodel)", None, i64::from(mode))?;
        }
        if let Some([now, most]) = gpu_hz {
            let hertz = Unit::Other("hertz".into());
            gauge(out, "gpu_clock", "Clock of the GPU of a Jetson", Some(&hertz), now)?;
            gauge(out, "gpu_clock_max", "Highest clock of the GPU of a Jetson", Some(&hertz), most)?;
        }
        gauge(out, "memory", "Memory of the daemon (resident)", Some(&Unit::Bytes), machine::memory() as i64)?;
        let help = "Time since the daemon began with its configuration";
        gauge(out, "uptime", help, Some(&Unit::Seconds), board.uptime().as_secs() as i64)
    }
}

fn outbox(out: &mut DescriptorEncoder<'_>, stock: &Stock) -> fmt::Result {
    gauge(out, "outbox_results", "Results that wait for the broker", None, stock.results as i64)?;
    gauge(out, "outbox_telemetry", "Telemetry that waits for the broker", None, stock.telemetry as i64)?;
    gauge(out, "outbox", "What waits for the broker", Some(&Unit::Bytes), stock.bytes as i64)?;
    let now = jiff::Timestamp::now().as_second();
    // What was stored before the clock was set has no age.
    let oldest = stock.oldest.filter(|oldest| *oldest >= CLOCK_IS_SET);
    let age = oldest.map_or(0, |oldest| (now - oldest).max(0));
    gauge(out, "outbox_oldest", "Age of the oldest result that waits", Some(&Unit::Seconds), age)?;
    let help = "Results that had to go unsent, since the outbox was made";
    counter(out.encode_descriptor("outbox_lost", help, None, MetricType::Counter)?, stock.lost)
}

fn counter(mut encoder: MetricEncoder<'_>, count: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, f64>(&count, None)
}

fn gauge(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    out.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
}

/// One line for each status, with its word in MQTT.
fn statuses<S: Serialize + PartialEq>(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: &[S],
    found: S,
) -> fmt::Result {
    let mut lines = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for status in all {
        let word = serde_json::to_value(status).map_err(|_| fmt::Error)?;
        let word = word.as_str().unwrap_or_default();
        lines.encode_family(&[("status", word)])?.encode_gauge(&i64::from(*status == found))?;
    }
    Ok(())
}
