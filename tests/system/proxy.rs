//! A TCP proxy between kiosk and broker that does to connections what networks do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Network {
    /// Everything passes.
    Good,
    /// Nothing passes, and nothing is lost.
    Stalled,
    /// The other side is gone, and nobody says so: everything is swallowed.
    HalfOpen,
    /// What the kiosk sends passes; what comes back is swallowed. The kiosk has to send it again.
    Deaf,
    /// A few bytes at a time.
    Slow,
    /// New connections are closed at once.
    Refusing,
}

const ALL: [Network; 6] =
    [Network::Good, Network::Stalled, Network::HalfOpen, Network::Deaf, Network::Slow, Network::Refusing];

/// The proxy. It ends with the test.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    network: AtomicU8,
    ended: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn to(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            network: AtomicU8::new(Network::Good as u8),
            ended: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let all = shared.clone();
        std::thread::spawn(move || {
            for kiosk in listener.incoming() {
                let Ok(kiosk) = kiosk else { continue };
                if all.ended.load(Ordering::Relaxed) {
                    return;
                }
                // A broker that is down, or a network that refuses: the kiosk's connection is closed.
                let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)) else { continue };
                if all.network() != Network::Refusing {
                    all.connect(&kiosk, &broker);
                }
            }
        });
        Self { port, shared }
    }

    /// From now on the network is like this, for connections that stand, too.
    pub fn set(&self, network: Network) {
        self.shared.network.store(network as u8, Ordering::Relaxed);
    }

    /// Breaks every connection.
    pub fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn network(&self) -> Network {
        ALL[usize::from(self.network.load(Ordering::Relaxed))]
    }

    fn connect(self: &Arc<Self>, kiosk: &TcpStream, broker: &TcpStream) {
        for (from, to, is_from_kiosk) in [(kiosk, broker, true), (broker, kiosk, false)] {
            let (from, to, all) = (from.try_clone().unwrap(), to.try_clone().unwrap(), self.clone());
            to.set_nodelay(true).unwrap();
            from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            self.streams.lock().unwrap().push(from.try_clone().unwrap());
            std::thread::spawn(move || all.carry(from, to, is_from_kiosk));
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, is_from_kiosk: bool) {
        let mut bytes = [0; 1 << 14];
        loop {
            let network = self.network();
            if network == Network::Stalled {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let most = if network == Network::Slow { 100 } else { bytes.len() };
            match from.read(&mut bytes[..most]) {
                Ok(0) => break,
                Ok(count) => {
                    let swallowed = network == Network::HalfOpen || (network == Network::Deaf && !is_from_kiosk);
                    if !swallowed && to.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                    if network == Network::Slow {
                        std::thread::sleep(Duration::from_millis(3));
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
