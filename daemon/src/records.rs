//! Records: what is kept of each exam on this device, for whoever has to explain a result later.
//!
//! A record is one JSON file in `exams` of the state folder, named by the id of the exam: the result and a line for each frame
//! that was looked at. No picture is kept unless the configuration asks for cut-outs, which show the tissue and nothing else.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anemia_vision::{CutOut, Quality, Rejection, write_png};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::config;
use crate::exam::Phase;
use crate::pipeline::Analysis;
use crate::publish::CLOCK_IS_SET;
use crate::report::ExamResult;

/// Most frames that are noted of one exam; of a longer one, the first.
const MOST_FRAMES: usize = 1000;

/// A finished exam on its way to the disk.
#[derive(Debug)]
pub struct Finished {
    /// The result.
    pub result: ExamResult,
    /// What led to it.
    pub notes: Notes,
}

/// What was noted while an exam ran.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    started: Option<Instant>,
    frames: Vec<FrameNote>,
    cutouts: Vec<u8>,
    size: [usize; 2],
}

/// One frame of an exam.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct FrameNote {
    /// Seconds since the first frame.
    at_s: f32,
    /// The calibrated logit; null for a rejected frame.
    logit: Option<f32>,
    /// Why it was rejected; null for a good one.
    reason: Option<Rejection>,
    quality: Quality,
}

#[derive(Serialize)]
struct Record<'a> {
    result: &'a ExamResult,
    frames: &'a [FrameNote],
}

impl Notes {
    /// Notes what came of a frame, given how the exam stood before it. With `cut`, the cut-out of a good frame is kept.
    pub fn frame(&mut self, analysis: &Analysis, phase: Phase, cut: Option<&CutOut>, now: Instant) {
        if phase != Phase::Collecting {
            self.started = None;
            self.frames.clear();
            self.cutouts.clear();
            return;
        }
        let started = *self.started.get_or_insert(now);
        // All room at the first frame, so that no later one allocates.
        self.frames.reserve(MOST_FRAMES.saturating_sub(self.frames.len()));
        if self.frames.len() < MOST_FRAMES {
            let at_s = now.duration_since(started).as_secs_f32();
            let (logit, reason) = (analysis.outcome.ok(), analysis.outcome.err());
            self.frames.push(FrameNote { at_s, logit, reason, quality: analysis.quality });
        }
        if let Some(cut) = cut.filter(|_| analysis.outcome.is_ok()) {
            self.size = [cut.width(), cut.height()];
            self.cutouts.extend_from_slice(cut.pixels());
        }
    }
}

/// The folder of the records.
#[derive(Clone, Debug)]
pub struct Records {
    folder: PathBuf,
    settings: config::Records,
    /// Bytes that were written since the folder was last looked through: with a month of exams in it, that takes a while.
    written: Arc<AtomicU64>,
}

impl Records {
    /// The records in a state folder.
    pub fn new(state_dir: &Path, settings: config::Records) -> Self {
        Self { folder: state_dir.join("exams"), settings, written: Arc::default() }
    }

    /// Whether cut-outs are to be kept.
    pub fn with_cutouts(&self) -> bool {
        self.settings.days > 0 && self.settings.cutouts
    }

    /// Writes the record of an exam. Says whether a sixteenth of what there may be was written since the last
    /// [`prune`](Self::prune), so that it is time for another.
    pub fn keep(&self, finished: &Finished) -> io::Result<bool> {
        if self.settings.days > 0 {
            // What a result says of somebody is nobody else's business on this machine.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            let Finished { result, notes } = finished;
            let record = Record { result, frames: &notes.frames };
            let text = serde_json::to_vec_pretty(&record)?;
            let [width, height] = notes.size;
            for (number, pixels) in notes.cutouts.chunks_exact((width * height * 3).max(1)).enumerate() {
                let path = self.folder.join(format!("{}-{}.png", result.id, number + 1));
                write_png(&path, width, height, pixels).map_err(io::Error::other)?;
            }
            // After the pictures, which are not worth a wait for the disk: a power cut can cost one.
            anemia_bundle::write_file(&self.folder.join(format!("{}.json", result.id)), &text)?;
            let bytes = (text.len() + notes.cutouts.len()) as u64;
            return Ok(self.written.fetch_add(bytes, Ordering::Relaxed) + bytes >= self.most() / 16);
        }
        Ok(false)
    }

    /// Bytes that all records may have.
    fn most(&self) -> u64 {
        u64::from(self.settings.mib) << 20
    }

    /// Removes the records that are older than the configuration says, and then the oldest until the others fit.
    pub fn prune(&self, now: Timestamp) -> io::Result<()> {
        self.written.store(0, Ordering::Relaxed);
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            // What has no id in its name is not ours.
            let Some((id, time)) = entry.file_name().to_str().and_then(exam_of) else { continue };
            match entry.metadata() {
                Ok(found) => files.push((id, time, found.len(), entry.path())),
                // A record that was being written has its name now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // An id begins with the time of its exam: the newest first.
        files.sort_by_key(|&(id, ..)| std::cmp::Reverse(id));
        let oldest = now.as_second() - i64::from(self.settings.days) * 24 * 3600;
        let mut total = 0;
        // Whole exams go: the pictures of a record with it.
        for exam in files.chunk_by(|a, b| a.0 == b.0) {
            total += exam.iter().map(|(_, _, bytes, _)| bytes).sum::<u64>();
            // A board without a battery begins in 1970 or so: what it wrote before it knew the time has no age.
            let is_old = self.settings.days == 0 || (CLOCK_IS_SET..=oldest).contains(&(exam[0].1.as_secs() as i64));
            if is_old || total > self.most() {
                for (.., path) in exam {
                    // Somebody else may have been here: a daemon that a reload has just ended.
                    anemia_bundle::remove_if_there(path)?;
                }
            }
        }
        Ok(())
    }
}

/// The exam that a file belongs to, and when it was, from the name of the file.
fn exam_of(name: &str) -> Option<(Uuid, Duration)> {
    let id: Uuid = name.get(..36)?.parse().ok()?;
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    Some((id, Duration::new(seconds, nanoseconds)))
}

#[cfg(test)]
mod tests {
    // A test whose stage cannot be set may panic.
    #![allow(clippy::unwrap_used)]

    use anemia_bundle::Verdict;

    use super::*;
    use crate::pipeline::StageTimes;
    use crate::report::{FrameCounts, ModelIdentity};

    const DAY: i64 = 24 * 3600;

    /// Seconds after a time at which clocks are set.
    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(CLOCK_IS_SET + second).unwrap()
    }

    fn finished(second: i64, notes: Notes) -> Finished {
        let id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, (CLOCK_IS_SET + second) as u64, 0));
        let model = ModelIdentity {
            name: "test".into(),
            version: "1".into(),
            sha256: String::new(),
            precision: anemia_bundle::Precision::Fp32,
            engine: "none".into(),
            age_months: [6, 59],
        };
        let result = ExamResult {
            schema: 1,
            id,
            device_id: "kiosk".into(),
            finished_at: at(second),
            verdict: Verdict::Retake,
            probability: None,
            disagreement: None,
            reason: Some(Rejection::Blurred),
            advice: String::new(),
            frames: FrameCounts { good: 0, rejected: 1 },
            duration_s: 1.0,
            model,
            locator: None,
            notice: String::new(),
        };
        Finished { result, notes }
    }

    fn files(records: &Records) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&records.folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn note(notes: &mut Notes, outcome: Result<f32, Rejection>, phase: Phase, now: Instant, cut: Option<&CutOut>) {
        let (quality, times) = (Quality { exposure: 0.5, ..Quality::default() }, StageTimes::default());
        notes.frame(&Analysis { quality, outcome, failure: None, times }, phase, cut, now);
    }

    #[test]
    fn a_record_tells_what_each_frame_gave_and_keeps_no_picture_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let (start, mut notes) = (Instant::now(), Notes::default());
        note(&mut notes, Ok(9.0), Phase::Aligning, start, None);
        note(&mut notes, Ok(1.5), Phase::Collecting, start, None);
        note(&mut notes, Err(Rejection::Blurred), Phase::Collecting, start + Duration::from_millis(250), None);
        let records = Records::new(folder.path(), config::Records::default());
        let exam = finished(1000 * DAY, notes);
        records.keep(&exam).unwrap();
        assert_eq!(files(&records), [format!("{}.json", exam.result.id)]);
        let text = fs::read_to_string(records.folder.join(format!("{}.json", exam.result.id))).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["result"]["reason"], "blurred");
        let frames = record["frames"].as_array().unwrap();
        assert_eq!(frames.len(), 2, "frames before the exam are none of it");
        assert_eq!((&frames[0]["logit"], &frames[0]["at_s"]), (&1.5.into(), &0.0.into()));
        assert_eq!((&frames[1]["reason"], &frames[1]["at_s"]), (&"blurred".into(), &0.25.into()));
        assert_eq!(frames[1]["quality"]["exposure"], 0.5);
    }

    #[test]
    fn cut_outs_are_kept_where_the_configuration_says_so_and_go_with_their_record() {
        let folder = tempfile::tempdir().unwrap();
        let mut cut = CutOut::new();
        let (mut frame, mut roi) = (anemia_vision::Frame::default(), anemia_vision::Roi::default());
        frame.set_rgb(2, 1, &[200, 60, 60, 210, 70, 70]);
        roi.set_from(0, 0, 2, 1, |_, _| true);
        cut.cut(&frame, &roi, 4, 4);
        let mut notes = Notes::default();
        note(&mut notes, Ok(1.0), Phase::Collecting, Instant::now(), Some(&cut));
        note(&mut notes, Err(Rejection::Glare), Phase::Collecting, Instant::now(), Some(&cut));
        let settings = config::Records { cutouts: true, ..config::Records::default() };
        let records = Records::new(folder.path(), settings);
        let exam = finished(1000 * DAY, notes);
        records.keep(&exam).unwrap();
        let id = exam.result.id;
        assert_eq!(files(&records), [format!("{id}-1.png"), format!("{id}.json")]);
        records.prune(at(1031 * DAY)).unwrap();
        assert!(files(&records).is_empty());
    }

    #[test]
    fn old_records_go_and_then_the_oldest_until_the_others_fit() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path(), config::Records { days: 10, mib: 1, cutouts: false });
        fs::create_dir_all(&records.folder).unwrap();
        fs::write(records.folder.join("notes of the nurse.txt"), vec![0; 3 << 20]).unwrap();
        for day in [100, 104, 105, 106] {
            records.keep(&finished(day * DAY, Notes::default())).unwrap();
        }
        assert_eq!(files(&records).len(), 5);
        records.prune(at(111 * DAY)).unwrap();
        assert_eq!(files(&records).len(), 4, "the one of day 100 is older than 10 days");
        // The second of day 106 leaves room for one other.
        let large = finished(106 * DAY + 5, Notes::default());
        let one = records.folder.join(files(&records).first().unwrap()).metadata().unwrap().len() as usize;
        let path = records.folder.join(format!("{}-1.png", large.result.id));
        fs::write(path, vec![0; (1 << 20) - 5 * one / 2]).unwrap();
        records.keep(&large).unwrap();
        records.prune(at(106 * DAY + 5)).unwrap();
        let left = files(&records);
        assert_eq!(left.len(), 4, "{left:?}");
        assert!(
            left.contains(&"notes of the nurse.txt".to_owned()) && left.contains(&format!("{}.json", large.result.id))
        );
    }

    #[test]
    fn what_was_kept_before_the_clock_was_set_has_no_age() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path(), config::Records { days: 10, mib: 1, cutouts: false });
        for second in [5 - CLOCK_IS_SET, 5] {
            records.keep(&finished(second, Notes::default())).unwrap();
        }
        records.prune(at(20 - CLOCK_IS_SET)).unwrap();
        assert_eq!(files(&records).len(), 2, "nothing is old while nobody knows the time");
        records.prune(at(11 * DAY)).unwrap();
        assert_eq!(files(&records).len(), 1);
        assert!(exam_of(&files(&records)[0]).unwrap().1.as_secs() < 10, "that of the time before");
    }

    #[test]
    fn what_is_written_never_exceeds_the_limit_by_more_than_a_sixteenth() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path(), config::Records { days: 10, mib: 1, cutouts: true });
        let notes = Notes { cutouts: vec![7; 50 * 20 * 3 * 8], size: [50, 20], ..Notes::default() };
        let mut largest = 0;
        for second in 0..200 {
            if records.keep(&finished(100 * DAY + second, notes.clone())).unwrap() {
                records.prune(at(100 * DAY + second)).unwrap();
            }
            let sizes = fs::read_dir(&records.folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
            largest = largest.max(sizes.sum::<u64>());
        }
        assert!((80_000..(1 << 20) * 17 / 16).contains(&largest), "{largest}");
    }

    #[test]
    fn zero_days_keep_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path(), config::Records { days: 0, ..config::Records::default() });
        records.keep(&finished(1000 * DAY, Notes::default())).unwrap();
        assert!(!records.folder.exists());
        // What was kept under another configuration goes: what was written before the clock was set, and what a power cut
        // left of a record, too.
        let before = Records::new(folder.path(), config::Records::default());
        for second in [5 - CLOCK_IS_SET, 5] {
            before.keep(&finished(second, Notes::default())).unwrap();
        }
        let cut_off = format!("{}.jsonab12CD", finished(7, Notes::default()).result.id);
        fs::write(records.folder.join(cut_off), "{").unwrap();
        records.prune(at(20 - CLOCK_IS_SET)).unwrap();
        assert_eq!(files(&records), [""; 0]);
    }
}
