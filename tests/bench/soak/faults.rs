//! The kinds of fault: what makes each, and takes it away again.

use std::fs;
use std::io::Read;
use std::time::Duration;

use super::camera::Conduct;
use super::mqtt::Subscriber;
use super::proxy::Network;
use super::stage::Stage;
use super::support;

/// Its name, and what makes it and takes it away again.
pub type Fault = (&'static str, fn(&mut Stage));

fn pause(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

/// The process lives on.
pub const FAULTS: &[Fault] = &[
    ("connection to the broker cut", |stage| stage.proxy.cut()),
    ("network stalls for 2 s", |stage| {
        stage.proxy.set(Network::Stalled);
        pause(2.0);
    }),
    ("half-open connection for 2 s", |stage| {
        stage.proxy.set(Network::HalfOpen);
        pause(2.0);
        stage.proxy.cut();
    }),
    ("confirmations are swallowed for 2 s", |stage| {
        stage.proxy.set(Network::Deaf);
        pause(2.0);
        stage.proxy.cut();
    }),
    ("33 kB a second, for 3 s", |stage| {
        stage.proxy.set(Network::Slow);
        pause(3.0);
    }),
    ("connections are refused for 2 s", |stage| {
        stage.proxy.set(Network::Refusing);
        stage.proxy.cut();
        pause(2.0);
    }),
    ("broker restarts", |stage| {
        stage.broker.stop();
        pause(1.0);
        stage.broker.start_again();
        stage.subscriber = Subscriber::new(stage.broker.port);
    }),
    ("camera hangs up", |stage| stage.camera.during(Conduct::HangsUp, Duration::from_millis(200))),
    ("camera is away for 3 s", |stage| stage.camera.during(Conduct::HangsUp, Duration::from_secs(3))),
    ("camera gives no pictures for 6 s", |stage| stage.camera.during(Conduct::Silent, Duration::from_secs(6))),
    ("disk full for 3 s", |stage| {
        stage.disk.fill();
        pause(3.0);
        stage.disk.free();
    }),
    ("configuration with a mistake", |stage| {
        let good = fs::read_to_string(stage.kiosk.config()).unwrap();
        fs::write(stage.kiosk.config(), format!("{good}mistake: 1\n")).unwrap();
        stage.kiosk.signal("HUP");
        pause(1.0);
        fs::write(stage.kiosk.config(), good).unwrap();
    }),
    ("50 commands and 50 messages that are none", |stage| {
        for number in 0..50 {
            stage.commands += 1;
            let id = format!("soak-{}", stage.commands);
            stage.subscriber.send("cancel", &format!("{{\"id\": \"{id}\", \"number\": {number}}}"));
            stage.subscriber.send("identify", "{\"id\": 1, nonsense");
        }
    }),
    ("30 pages come, half of them leave in the middle", |stage| {
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
        let streams: Vec<_> = (0..30).filter_map(|_| stage.get("/live", upgrade)).collect();
        assert_eq!(streams.len(), 30);
        pause(1.0);
        for (number, mut stream) in streams.into_iter().enumerate() {
            let mut bytes = [0; 4096];
            if number % 2 == 0 {
                assert!(stream.read(&mut bytes).unwrap() > 0);
            }
        }
    }),
    ("50 questions at the local socket", |stage| {
        for _ in 0..50 {
            let mut command = support::anemiad();
            command.args(["status", "--config"]).arg(stage.kiosk.config());
            assert!(command.output().unwrap().status.success());
        }
    }),
];

/// The process ends, and there is another one.
pub const ENDS: &[Fault] = &[
    ("killed", |stage| {
        stage.kiosk.signal("KILL");
        stage.kiosk.wait();
        stage.kiosk.start();
    }),
    ("restarted", |stage| {
        stage.kiosk.signal("TERM");
        stage.kiosk.wait();
        stage.kiosk.start();
    }),
];
