//! `anemiad demo`: the whole way, from a rendered eye to a message at a broker, in one program.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anemia_engine::EngineError;
use anemia_vision::Frame;
use anemia_vision::phantom::Phantom;
use clap::Args;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};

use crate::config::{self, Config};
use crate::models;
use crate::pipeline::Pipeline;
use crate::publish::Topics;
use crate::report::{ExamResult, NOTICE};
use crate::service::{Carried, Opened, Refusal, Running};

/// The name of the kiosk in the demo.
const DEVICE: &str = "demo";
/// The demo gives up when no exam ends for so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shows the whole way from camera to broker, with phantoms and a broker in the program
#[derive(Args)]
pub struct Demo {
    /// Exams after which the demo ends with a summary
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    exams: u32,
    /// Number of the first phantom
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Folder of the model bundle; without it, the one that ships with the program
    #[arg(long)]
    bundle: Option<PathBuf>,
}

impl Demo {
    /// Runs the demo.
    #[allow(clippy::print_stdout)]
    pub async fn run(&self) -> Result<(), Refusal> {
        let failure = |what: &str, cause: String| Refusal::Failure(format!("{what}: {cause}"));
        let port = start_broker().map_err(|cause| failure("broker", cause))?;
        let folder = std::env::temp_dir().join(format!("anemiad-demo-{}", std::process::id()));
        let mut config = self.config(port, &folder);
        take_time(&mut config)?;
        let prepared = Opened::new(config, None)?.load(&mut |_| true)?;
        println!("Phantom camera 1280×720 → conjunctiva → network → exam → MQTT broker on 127.0.0.1:{port}");
        let page = config::Kiosk::default().listen;
        match TcpListener::bind(page) {
            Ok(_) => println!("The page of the kiosk: http://{page}"),
            Err(error) => println!("The page of the kiosk is not shown: {page}: {error}"),
        }
        println!("{NOTICE} The eyes are rendered: verdicts show that the machine works, and nothing else.\n");
        println!("{:>5}  {:<14} {:>11}  {:>6}  {:>8}  id", "exam", "verdict", "probability", "frames", "seconds");

        // Listening before the first exam can end, so that none is missed.
        let mut listener = Listener::connect(port).await.map_err(|cause| failure("listener", cause))?;
        let running = Running::start(prepared, Carried::default(), tokio::sync::mpsc::channel(1).0)
            .map_err(|error| failure("threads", error.to_string()))?;
        let start = Instant::now();
        let mut verdicts: BTreeMap<&str, u32> = BTreeMap::new();
        let mut durations = Vec::new();
        for exam in 1..=self.exams {
            let result = tokio::select! {
                result = listener.next() => result.map_err(|cause| failure("listener", cause))?,
                part = running.broken() => return Err(failure("demo", format!("{part} ended"))),
                () = tokio::time::sleep(PATIENCE) => {
                    return Err(failure("demo", format!("no exam ended within {} s", PATIENCE.as_secs())));
                }
            };
            let probability = result.probability.map_or("-".into(), |value| format!("{value:.3}"));
            let frames = format!("{}/{}", result.frames.good, result.frames.good + result.frames.rejected);
            let id = result.id.to_string();
            println!(
                "{exam:>5}  {:<14} {probability:>11}  {frames:>6}  {:>8.2}  {id}",
                result.verdict, result.duration_s
            );
            *verdicts.entry(result.verdict.as_str()).or_default() += 1;
            durations.push(result.duration_s);
        }
        let (board, dropped) = (running.board().clone(), running.dropped());
        let (figures, model) = (board.figures(), board.watch().borrow().model.clone());
        running.finish().await;
        // It held only the outbox of the demo, which is empty now, and its records.
        let _ = std::fs::remove_dir_all(&folder);

        durations.sort_by(f32::total_cmp);
        let [locate, quality, cutout, inference] = &figures.stages;
        let verdicts: Vec<_> = verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
        println!("\n{} exams in {:.1} s: {}", self.exams, start.elapsed().as_secs_f32(), verdicts.join(", "));
        println!("median exam {:.2} s", durations[durations.len() / 2]);
        println!(
            "{} frames captured, {} analysed, {dropped} replaced by a newer one",
            figures.captured.get(),
            figures.analysed.get()
        );
        println!(
            "per frame {:.1} ms to find the tissue, check and cut it out, {:.1} ms for the network ({}, {})",
            locate.mean_ms() + quality.mean_ms() + cutout.mean_ms(),
            inference.mean_ms(),
            model.engine,
            model.precision,
        );
        println!("model {} {} ({}…)", model.name, model.version, &model.sha256[..12]);
        Ok(())
    }

    fn config(&self, port: u16, folder: &std::path::Path) -> Config {
        Config {
            device_id: DEVICE.into(),
            state_dir: folder.to_owned(),
            camera: config::Camera {
                phantom: Some(config::PhantomCamera {
                    width: 1280,
                    height: 720,
                    seed: self.seed,
                    pace: config::Pace { rate_hz: 15.0, show_s: 1.2, gap_s: 0.5 },
                }),
                ..config::Camera::default()
            },
            roi: config::Roi::Auto,
            locator: config::Locator::default(),
            model: config::Model {
                bundle: self.bundle.clone().unwrap_or_else(models::shipped_classifier),
                engine: config::EngineKind::Onnxruntime,
                precision: config::WantedPrecision::Fp32,
                threads: 1,
                onnxruntime: None,
                tensorrt: config::TensorRt::default(),
                updates: None,
            },
            quality: config::Quality::default(),
            exam: config::Exam { timeout_s: 5.0, absent_s: 0.2, ..config::Exam::default() },
            records: config::Records::default(),
            mqtt: config::Mqtt {
                host: Ipv4Addr::LOCALHOST.to_string(),
                port,
                tls: None,
                username: None,
                password_file: None,
                client_id: None,
                keep_alive_s: 30,
                commands: false,
                telemetry_s: 0,
                replay_per_s: 100,
                home_assistant: false,
            },
            outbox: config::Outbox::default(),
            kiosk: config::Kiosk::default(),
            metrics: config::Metrics::default(),
            health: config::Health::default(),
        }
    }
}

/// Where a frame takes long (an old processor, an emulated one), eyes stay in view for longer, as patients would have to.
fn take_time(config: &mut Config) -> Result<(), EngineError> {
    let Some(mut phantoms) = config.camera.phantom.clone() else { return Ok(()) };
    let mut frame = Frame::default();
    let start = Instant::now();
    Phantom::from_seed(phantoms.seed.into()).render(phantoms.width as usize, phantoms.height as usize, &mut frame);
    let render_s = start.elapsed().as_secs_f64();
    let mut pipeline = Pipeline::open(&config.parts(), &mut |_| true)?;
    // The first frame is slower than those that follow.
    pipeline.analyse(&frame, Instant::now());
    let frame_s = pipeline.analyse(&frame, Instant::now()).times.total().as_secs_f64();
    let frames = f64::from(config.exam.frames) + f64::from(config.exam.steady_frames);
    let pace = &mut phantoms.pace;
    // An eye is rendered once, while it is in view already.
    pace.show_s = pace.show_s.max(render_s + frame_s * (frames + 4.0));
    pace.gap_s = pace.gap_s.max(render_s + frame_s * 4.0);
    config.exam.timeout_s = config.exam.timeout_s.max(pace.show_s * 2.0);
    config.health.late_frame_ms = config.health.late_frame_ms.max(((render_s + frame_s) * 1e3) as u32);
    config.camera.phantom = Some(phantoms);
    Ok(())
}

/// Starts a broker in the program, on a free port of the loopback interface.
fn start_broker() -> Result<u16, String> {
    // The broker opens its port itself: a port that was free a moment ago is the best that can be given to it.
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    let listen: SocketAddr = probe.local_addr().map_err(|error| error.to_string())?;
    drop(probe);
    let connections = rumqttd::ConnectionSettings {
        connection_timeout_ms: 5000,
        max_payload_size: 1 << 16,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: false,
    };
    let server =
        rumqttd::ServerSettings { name: "demo".into(), listen, tls: None, next_connection_delay_ms: 1, connections };
    let router = rumqttd::RouterConfig {
        max_connections: 16,
        max_outgoing_packet_count: 200,
        max_segment_size: 1 << 20,
        max_segment_count: 4,
        ..rumqttd::RouterConfig::default()
    };
    let settings =
        rumqttd::Config { router, v5: Some([("demo".to_owned(), server)].into()), ..rumqttd::Config::default() };
    let mut broker = rumqttd::Broker::new(settings);
    // It runs until the program ends.
    let thread = std::thread::Builder::new().name("broker".into()).spawn(move || {
        if let Err(error) = broker.start() {
            tracing::error!("the broker of the demo ended: {error}");
        }
    });
    thread.map(|_| listen.port()).map_err(|error| error.to_string())
}

/// A subscriber to the results of the demo.
struct Listener {
    events: EventLoop,
    _client: AsyncClient,
}

impl Listener {
    async fn connect(port: u16) -> Result<Self, String> {
        let start = Instant::now();
        loop {
            let options = MqttOptions::new("demo-listener", Ipv4Addr::LOCALHOST.to_string(), port);
            let (client, events) = AsyncClient::new(options, 8);
            client.try_subscribe(Topics::new(DEVICE).result, QoS::AtLeastOnce).map_err(|error| error.to_string())?;
            let mut listener = Self { events, _client: client };
            match listener.until(|event| matches!(event, Event::Incoming(Packet::SubAck(_))).then_some(())).await {
                Ok(()) => return Ok(listener),
                // The broker needs a moment to open its port.
                Err(error) if start.elapsed() > Duration::from_secs(5) => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn next(&mut self) -> Result<ExamResult, String> {
        let payload = self.until(|event| match event {
            Event::Incoming(Packet::Publish(message)) => Some(message.payload.clone()),
            _ => None,
        });
        serde_json::from_slice(&payload.await?).map_err(|error| error.to_string())
    }

    async fn until<T>(&mut self, found: impl Fn(&Event) -> Option<T>) -> Result<T, String> {
        loop {
            let event = self.events.poll().await.map_err(|error| error.to_string())?;
            if let Some(found) = found(&event) {
                return Ok(found);
            }
        }
    }
}
