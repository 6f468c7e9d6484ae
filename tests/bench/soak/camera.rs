//! A network camera: whoever connects gets raw pictures, an eye for 0.8 s and nothing for 0.4 s.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anemia_vision::Frame;
use anemia_vision::phantom::Phantom;

const SIZE: (usize, usize) = (640, 360);
const RATE_HZ: u32 = 25;

/// What the camera does.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Conduct {
    Plays,
    /// Connected, and no pictures.
    Silent,
    HangsUp,
}

/// The camera, until the process ends.
pub struct Camera {
    port: u16,
    conduct: Arc<AtomicU8>,
}

impl Camera {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, conduct) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU8::new(Conduct::Plays as u8)));
        let eyes: Vec<Vec<u8>> = (40..52)
            .map(|seed| {
                let mut frame = Frame::default();
                Phantom::from_seed(seed).render(SIZE.0, SIZE.1, &mut frame);
                frame.rgb().to_vec()
            })
            .collect();
        let (eyes, shared) = (Arc::new(eyes), conduct.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), eyes, conduct) = (client, eyes.clone(), shared.clone()) else { continue };
                std::thread::spawn(move || play(client, &eyes, &conduct));
            }
        });
        Self { port, conduct }
    }

    /// The pipeline that reads it.
    pub fn pipeline(&self) -> String {
        format!(
            "tcpclientsrc host=127.0.0.1 port={} do-timestamp=true ! rawvideoparse format=rgb width={} height={} framerate={RATE_HZ}/1",
            self.port, SIZE.0, SIZE.1
        )
    }

    pub fn set(&self, conduct: Conduct) {
        self.conduct.store(conduct as u8, Ordering::Relaxed);
    }

    pub fn during(&self, conduct: Conduct, time: Duration) {
        self.set(conduct);
        std::thread::sleep(time);
        self.set(Conduct::Plays);
    }
}

fn play(mut client: TcpStream, eyes: &[Vec<u8>], conduct: &AtomicU8) {
    let nothing = vec![0; eyes[0].len()];
    let (start, mut tick) = (Instant::now(), 0_u32);
    loop {
        let due = start + Duration::from_secs_f64(f64::from(tick) / f64::from(RATE_HZ));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (turn, at) = (tick / 30, tick % 30);
        tick += 1;
        let now = conduct.load(Ordering::Relaxed);
        if now == Conduct::HangsUp as u8 {
            return drop(client.shutdown(Shutdown::Both));
        }
        let picture = if at < 20 { &eyes[turn as usize % eyes.len()] } else { &nothing };
        if now == Conduct::Plays as u8 && client.write_all(picture).is_err() {
            return;
        }
    }
}
