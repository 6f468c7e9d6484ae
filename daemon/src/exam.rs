//! The exam: one patient, several good frames, one result.
//!
//! A pure state machine: frames and the time go in, a state and at the end an outcome come out. It does no I/O and
//! asks no clock, so every path is tested without waiting.
//!
//! `idle → aligning → collecting k/N → result → idle`. An exam starts by itself when the conjunctiva stays in view,
//! and the next one only after the conjunctiva has been out of view: one patient gives one result. A command starts one at
//! once, and ends one without a result.

use std::time::{Duration, Instant};

use anemia_bundle::{OperatingPoint, Verdict};
use anemia_vision::Rejection;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config;
use crate::pipeline::probability;

/// What two people need at least to change places, when nobody sees them.
const CHANGE: Duration = Duration::from_secs(2);

/// Where an exam is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nobody is in view.
    #[default]
    Idle,
    /// The conjunctiva is in view, and must stay there.
    Aligning,
    /// Good frames are being collected.
    Collecting,
    /// The exam has a result, which the state names once it is on the disk; the next exam starts when this patient has left.
    Result,
    /// The exam was cancelled and has no result; the next one starts when this patient has left.
    Cancelled,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Idle, Self::Aligning, Self::Collecting, Self::Result, Self::Cancelled];
}

/// Why an exam cannot be started or cancelled. The text is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// One is running.
    #[error("an exam is running")]
    Running,
    /// None is running.
    #[error("no exam is running")]
    None,
    /// The kiosk stops, or its disk takes no results.
    #[error("the kiosk starts no exam now: it is stopping, or its disk takes no results")]
    Closed,
    /// Nobody can be seen.
    #[error("the camera gives no pictures")]
    Camera,
    /// Nobody answered in time.
    #[error("the kiosk is too busy to answer")]
    Busy,
}

impl NotNow {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Running, Self::None, Self::Closed, Self::Camera, Self::Busy];

    /// The reason in a word, for the page.
    pub fn code(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::None => "none",
            Self::Closed => "closed",
            Self::Camera => "camera",
            Self::Busy => "busy",
        }
    }
}

/// What others see of an exam.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExamState {
    /// Where the exam is.
    pub phase: Phase,
    /// Good frames so far.
    pub good: u8,
    /// Good frames that are needed.
    pub wanted: u8,
    /// What the patient or the nurse should do now, as a code; see the field `reason` of a result.
    pub hint: Option<Rejection>,
}

/// How an exam ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What the person is told.
    pub verdict: Verdict,
    /// Probability of the median of the calibrated logits; `None` for "retake".
    pub probability: Option<f32>,
    /// Median absolute deviation of the calibrated logits from their median; `None` for "retake".
    pub disagreement: Option<f32>,
    /// For "retake", the most frequent reason; when reasons tie, the one that is checked first.
    pub reason: Option<Rejection>,
    /// Good frames.
    pub good: u32,
    /// Frames that were rejected while good ones were being collected.
    pub rejected: u32,
    /// From the first frame of the exam to its end.
    pub duration: Duration,
}

/// The exam of one camera.
#[derive(Debug)]
pub struct Exam {
    settings: config::Exam,
    point: OperatingPoint,
    phase: Phase,
    started: Option<Instant>,
    seen: u8,
    absent_since: Option<Instant>,
    /// When the last frame was looked at, and how long after the one before.
    looked: Option<Instant>,
    pace: Duration,
    logits: Vec<f32>,
    rejected: [u32; Rejection::ALL.len()],
    hint: Option<Rejection>,
    accepting: bool,
}

impl Exam {
    /// An idle exam; or, when the one before stood at [`Phase::Result`] or [`Phase::Cancelled`], one that first waits for this
    /// patient to leave. `before` is where that one stood, and when it last looked.
    pub fn new(settings: config::Exam, point: OperatingPoint, before: Option<(Phase, Instant)>) -> Self {
        let waiting = before.filter(|(phase, _)| matches!(phase, Phase::Result | Phase::Cancelled));
        Self {
            settings,
            point,
            phase: waiting.map_or(Phase::Idle, |(phase, _)| phase),
            started: None,
            seen: 0,
            absent_since: None,
            looked: waiting.map(|(_, looked)| looked),
            pace: Duration::ZERO,
            logits: Vec::with_capacity(usize::from(settings.frames)),
            rejected: [0; Rejection::ALL.len()],
            hint: None,
            accepting: true,
        }
    }

    /// Where the exam is.
    pub fn state(&self) -> ExamState {
        // Whoever has a result has nothing more to do.
        let hint = self.hint.filter(|_| !matches!(self.phase, Phase::Result | Phase::Cancelled));
        ExamState { phase: self.phase, good: self.logits.len() as u8, wanted: self.settings.frames, hint }
    }

    /// Whether good frames are being collected, so that stopping now would lose them.
    pub fn in_hand(&self) -> bool {
        self.phase == Phase::Collecting
    }

    /// Whether the next exam may start; one in hand goes on in any case.
    pub fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }

    /// To be called when a frame came, before anything of it is kept: it may show another person than the frames before it, whose exam
    /// ends then.
    pub fn part(&mut self, now: Instant) -> Option<Outcome> {
        let may_be_another = self.may_be_another(now);
        // An exam that was started and has seen nobody yet has nothing of anybody.
        if may_be_another && !(self.phase == Phase::Collecting && self.seen == 0) { self.leave(now) } else { None }
    }

    /// Takes what one frame gave: a calibrated logit, or the reason why it was rejected.
    pub fn observe(&mut self, frame: Result<f32, Rejection>, now: Instant) -> Option<Outcome> {
        if let Some(outcome) = self.part(now) {
            return Some(outcome);
        }
        let in_view = frame != Err(Rejection::NoConjunctiva);
        self.hint = frame.err();
        self.looked = Some(now);
        if in_view {
            self.absent_since = None;
        } else {
            self.absent_since.get_or_insert(now);
        }
        let left = self.absent_since.is_some_and(|since| now.duration_since(since) >= self.settings.absent());
        match self.phase {
            Phase::Idle | Phase::Aligning if !in_view || !self.accepting || !self.settings.automatic => self.rest(),
            Phase::Idle | Phase::Aligning => {
                self.phase = Phase::Aligning;
                self.started.get_or_insert(now);
                self.seen = self.seen.saturating_add(1);
                if self.seen >= self.settings.steady_frames {
                    self.phase = Phase::Collecting;
                }
            }
            Phase::Collecting => {
                self.seen = self.seen.saturating_add(in_view.into());
                match frame {
                    Ok(logit) => self.logits.push(logit),
                    Err(reason) => self.rejected[reason as usize] += 1,
                }
                if self.logits.len() >= usize::from(self.settings.frames) {
                    return Some(self.judge(now));
                }
                // Whoever starts an exam by command may still have to sit down.
                if left && self.seen > 0 {
                    return self.leave(now);
                }
            }
            Phase::Result | Phase::Cancelled if left => self.rest(),
            Phase::Result | Phase::Cancelled => {}
        }
        self.check_time(now)
    }

    /// Notes when a frame came. After a gap in which somebody could have taken the place of the patient, nobody knows whose it
    /// is. Cameras are slow by themselves, so the gap is one beyond their pace.
    fn may_be_another(&mut self, now: Instant) -> bool {
        // Whoever started an exam by a command may have done so in the gap.
        let Some(looked) = self.looked.max(self.started) else { return false };
        let gap = now.saturating_duration_since(looked);
        gap >= self.settings.absent() + CHANGE + std::mem::replace(&mut self.pace, gap)
    }

    /// Starts an exam at once, of whoever is or comes into view; of one who has a result already, too.
    pub fn start(&mut self, now: Instant) -> Result<(), NotNow> {
        match self.phase {
            Phase::Collecting => return Err(NotNow::Running),
            _ if !self.accepting => return Err(NotNow::Closed),
            _ => self.rest(),
        }
        self.phase = Phase::Collecting;
        self.started = Some(now);
        Ok(())
    }

    /// Ends the exam without a result.
    pub fn cancel(&mut self) -> Result<(), NotNow> {
        if !matches!(self.phase, Phase::Aligning | Phase::Collecting) {
            return Err(NotNow::None);
        }
        self.rest();
        self.phase = Phase::Cancelled;
        Ok(())
    }

    /// The camera gives nothing. After the time that a patient needs to leave, whoever is there when it comes back may be
    /// somebody else. To be called again and again meanwhile.
    pub fn see_nothing(&mut self, now: Instant) -> Option<Outcome> {
        let blind = self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= self.settings.absent());
        if blind { self.leave(now) } else { self.check_time(now) }
    }

    /// The next face may be another patient's: frames of two people must never make one result.
    fn leave(&mut self, now: Instant) -> Option<Outcome> {
        let outcome = (self.phase == Phase::Collecting).then(|| self.give_up(now));
        self.rest();
        outcome
    }

    /// Ends an exam that takes too long. To be called when no frames come, too.
    pub fn check_time(&mut self, now: Instant) -> Option<Outcome> {
        let late = self.started.is_some_and(|started| now.duration_since(started) >= self.settings.timeout());
        match self.phase {
            Phase::Collecting if late => Some(self.give_up(now)),
            // Nothing was collected yet: nobody waits for a result.
            Phase::Aligning if late => {
                self.rest();
                None
            }
            _ => None,
        }
    }

    fn rest(&mut self) {
        self.phase = Phase::Idle;
        self.started = None;
        self.seen = 0;
        self.logits.clear();
        self.rejected.fill(0);
    }

    fn judge(&mut self, now: Instant) -> Outcome {
        let logit = median(&mut self.logits);
        let mut deviations: Vec<f32> = self.logits.iter().map(|one| (one - logit).abs()).collect();
        let disagreement = median(&mut deviations);
        Outcome {
            verdict: self.point.verdict(logit, disagreement),
            probability: Some(probability(logit)),
            disagreement: Some(disagreement),
            reason: None,
            ..self.finish(now)
        }
    }

    fn give_up(&mut self, now: Instant) -> Outcome {
        let most = self.rejected.iter().copied().max().unwrap_or(0);
        let reason = Rejection::ALL.into_iter().find(|reason| most > 0 && self.rejected[*reason as usize] == most);
        // Without a single rejected frame, the camera gave too few.
        Outcome { reason: reason.or(Some(Rejection::NoPicture)), ..self.finish(now) }
    }

    /// What every end has in common. The exam is then in [`Phase::Result`].
    fn finish(&mut self, now: Instant) -> Outcome {
        self.phase = Phase::Result;
        let started = self.started.take().unwrap_or(now);
        Outcome {
            verdict: Verdict::Retake,
            probability: None,
            disagreement: None,
            reason: None,
            good: self.logits.len() as u32,
            rejected: self.rejected.iter().sum(),
            duration: now.duration_since(started),
        }
    }
}

/// The middle value; of an even number, the mean of the two in the middle. `values` must not be empty.
fn median(values: &mut [f32]) -> f32 {
    values.sort_by(f32::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POINT: OperatingPoint = OperatingPoint { threshold: 0.5, indeterminate: [0.4, 0.6], temperature: 1.0 };
    const FRAME: Duration = Duration::from_millis(100);

    /// An exam that is fed one frame every 100 ms.
    struct Bench {
        exam: Exam,
        now: Instant,
    }

    impl Bench {
        fn new(frames: u8) -> Self {
            let settings = config::Exam { automatic: true, frames, steady_frames: 2, timeout_s: 5.0, absent_s: 0.5 };
            Self { exam: Exam::new(settings, POINT, None), now: Instant::now() }
        }

        fn feed(&mut self, frame: Result<f32, Rejection>) -> Option<Outcome> {
            self.now += FRAME;
            self.exam.observe(frame, self.now)
        }

        fn feed_all(&mut self, frames: &[Result<f32, Rejection>]) -> Option<Outcome> {
            frames.iter().find_map(|&frame| self.feed(frame))
        }
    }

    const GONE: Result<f32, Rejection> = Err(Rejection::NoConjunctiva);
    const BLURRED: Result<f32, Rejection> = Err(Rejection::Blurred);

    #[test]
    fn after_a_gap_in_which_people_can_change_places_nothing_is_added_to_the_exam() {
        let mut bench = Bench::new(5);
        assert!(bench.feed_all(&[Ok(1.0); 4]).is_none());
        assert_eq!(bench.exam.state().good, 2);
        // Frames were too old to be looked at.
        bench.now += Duration::from_secs(3);
        assert!(bench.exam.check_time(bench.now).is_none());
        let outcome = bench.feed(Ok(-3.0)).unwrap();
        assert_eq!((outcome.verdict, outcome.good), (Verdict::Retake, 2));
        assert_eq!(bench.exam.state().phase, Phase::Idle);
        let outcome = bench.feed_all(&[Ok(-3.0); 7]).unwrap();
        assert_eq!((outcome.verdict, outcome.good), (Verdict::NonAnemic, 5));
        // Whoever comes into view after such a gap has no result yet.
        bench.now += Duration::from_secs(3);
        assert!(bench.feed_all(&[Ok(3.0); 7]).is_some());
    }

    #[test]
    fn a_slow_camera_is_no_gap_and_a_start_ends_one() {
        let mut bench = Bench::new(5);
        let mut slowly = |exam: &mut Exam| {
            bench.now += Duration::from_millis(900);
            exam.observe(Ok(1.0), bench.now)
        };
        let mut exam = Exam::new(config::Exam { timeout_s: 60.0, ..bench.exam.settings }, POINT, None);
        assert!((0..7).find_map(|_| slowly(&mut exam)).is_some_and(|outcome| outcome.good == 5));
        bench.now += Duration::from_secs(10);
        exam.start(bench.now).unwrap();
        bench.now += FRAME;
        assert!(exam.observe(Ok(1.0), bench.now).is_none());
        assert_eq!(exam.state().good, 1);
    }

    #[test]
    fn an_exam_aligns_collects_and_gives_the_median() {
        let mut bench = Bench::new(3);
        assert_eq!(bench.exam.state().phase, Phase::Idle);
        bench.feed(Ok(9.0));
        assert_eq!(bench.exam.state().phase, Phase::Aligning);
        bench.feed(Ok(9.0));
        assert_eq!(bench.exam.state().phase, Phase::Collecting);
        assert!(bench.feed_all(&[Ok(2.0), Ok(1.0)]).is_none());
        assert_eq!((bench.exam.state().good, bench.exam.state().wanted), (2, 3));
        let outcome = bench.feed(Ok(30.0)).expect("three good frames are enough");
        assert_eq!(outcome.verdict, Verdict::Anemic);
        assert_eq!(outcome.probability, Some(probability(2.0)), "the median is not moved by one odd frame");
        assert_eq!(outcome.disagreement, Some(1.0));
        assert_eq!(bench.exam.state().phase, Phase::Result);
    }

    #[test]
    fn frames_that_disagree_give_indeterminate() {
        let mut bench = Bench::new(3);
        bench.feed_all(&[Ok(0.0), Ok(0.0)]);
        let outcome = bench.feed_all(&[Ok(1.0), Ok(-3.0), Ok(5.0)]).expect("a result");
        assert_eq!(outcome.verdict, Verdict::Indeterminate);
    }

    #[test]
    fn one_patient_gives_one_result_however_long_they_stay() {
        let mut bench = Bench::new(1);
        assert!(bench.feed_all(&[Ok(1.0), Ok(1.0), Ok(1.0)]).is_some());
        for _ in 0..100 {
            assert!(bench.feed(Ok(1.0)).is_none());
        }
        // A short loss of the tissue is a blink, not a new patient.
        bench.feed_all(&[GONE, GONE, GONE]);
        assert!(bench.feed_all(&[Ok(1.0); 10]).is_none());
        bench.feed_all(&[GONE; 7]);
        assert_eq!(bench.exam.state().phase, Phase::Idle);
        assert!(bench.feed_all(&[Ok(1.0); 3]).is_some(), "the next patient");
    }

    #[test]
    fn an_exam_without_enough_good_frames_ends_with_the_most_frequent_reason() {
        let mut bench = Bench::new(5);
        bench.feed_all(&[Ok(1.0), Ok(1.0), Err(Rejection::Glare), Ok(1.0)]);
        let outcome = bench.feed_all(&[BLURRED; 60]).expect("the exam times out");
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::Retake, Some(Rejection::Blurred)));
        assert_eq!((outcome.good, outcome.probability), (1, None));
        assert_eq!(outcome.duration, Duration::from_secs(5));
    }

    #[test]
    fn an_exam_whose_camera_dies_ends_by_time_alone() {
        let mut bench = Bench::new(5);
        bench.feed_all(&[Ok(1.0); 3]);
        assert!(bench.exam.check_time(bench.now + Duration::from_secs(4)).is_none());
        let outcome = bench.exam.check_time(bench.now + Duration::from_secs(5)).expect("the exam times out");
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::Retake, Some(Rejection::NoPicture)));
    }

    #[test]
    fn behind_a_camera_that_was_away_may_be_somebody_else() {
        let mut bench = Bench::new(5);
        bench.feed_all(&[Ok(1.0); 4]);
        assert_eq!(bench.exam.state().phase, Phase::Collecting);
        assert!(bench.exam.see_nothing(bench.now + 4 * FRAME).is_none(), "a hiccup is no change of patients");
        let outcome = bench.exam.see_nothing(bench.now + 5 * FRAME).expect("the exam is given up");
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::Retake, Some(Rejection::NoPicture)));
        assert_eq!(bench.exam.state().phase, Phase::Idle);
        // One who has a result: the next in view when the camera is back gets one, too.
        let mut bench = Bench::new(1);
        bench.feed_all(&[Ok(1.0); 3]);
        assert_eq!(bench.exam.state().phase, Phase::Result);
        assert!(bench.exam.see_nothing(bench.now + 5 * FRAME).is_none());
        assert!(bench.feed_all(&[Ok(1.0); 3]).is_some());
    }

    #[test]
    fn an_exam_that_was_started_waits_for_a_camera_that_is_still_opening() {
        let mut bench = Bench::new(2);
        bench.exam.start(bench.now).unwrap();
        bench.now += Duration::from_secs(4);
        assert_eq!(bench.feed(Ok(1.0)), None, "nobody was seen before, so that nobody can have been exchanged");
        let outcome = bench.feed(Ok(1.0)).expect("two good frames are enough");
        assert_eq!((outcome.good, outcome.reason), (2, None));
    }

    #[test]
    fn frames_of_two_patients_never_make_one_result() {
        let mut bench = Bench::new(5);
        bench.feed_all(&[Ok(3.0); 5]);
        let outcome = bench.feed_all(&[GONE; 6]).expect("the patient left in the middle");
        assert_eq!((outcome.verdict, outcome.good), (Verdict::Retake, 3));
        let outcome = bench.feed_all(&[Ok(-3.0); 7]).expect("the next patient");
        assert_eq!((outcome.verdict, outcome.disagreement), (Verdict::NonAnemic, Some(0.0)));
    }

    #[test]
    fn after_a_reload_a_patient_who_has_a_result_gets_no_second_one() {
        let mut bench = Bench::new(1);
        bench.exam = Exam::new(bench.exam.settings, POINT, Some((Phase::Result, bench.now)));
        assert!(bench.feed_all(&[Ok(1.0); 20]).is_none());
        bench.feed_all(&[GONE; 6]);
        assert!(bench.feed_all(&[Ok(1.0); 3]).is_some());
    }

    #[test]
    fn after_a_reload_that_took_long_whoever_is_in_view_may_be_somebody_else() {
        let mut bench = Bench::new(1);
        bench.exam = Exam::new(bench.exam.settings, POINT, Some((Phase::Result, bench.now)));
        bench.now += Duration::from_secs(4);
        assert!(bench.feed_all(&[Ok(1.0); 3]).is_some());
    }

    #[test]
    fn a_command_starts_an_exam_at_once_and_waits_for_the_patient() {
        let mut bench = Bench::new(2);
        bench.exam.settings.automatic = false;
        assert!(bench.feed_all(&[Ok(1.0); 20]).is_none(), "nothing starts by itself");
        bench.feed_all(&[GONE; 10]);
        bench.exam.start(bench.now).unwrap();
        assert_eq!(bench.exam.start(bench.now), Err(NotNow::Running));
        assert!(bench.feed_all(&[GONE; 20]).is_none(), "the patient sits down");
        let outcome = bench.feed_all(&[Ok(1.0); 2]).expect("a result");
        assert_eq!((outcome.verdict, outcome.rejected), (Verdict::Anemic, 20));
        bench.exam.start(bench.now).expect("the same patient once more");
        let outcome = bench.feed_all(&[GONE; 60]).expect("nobody came");
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::Retake, Some(Rejection::NoConjunctiva)));
        bench.exam.set_accepting(false);
        assert_eq!(bench.exam.start(bench.now), Err(NotNow::Closed));
    }

    #[test]
    fn a_cancelled_exam_gives_no_result_and_does_not_begin_again_by_itself() {
        let mut bench = Bench::new(5);
        assert_eq!(bench.exam.cancel(), Err(NotNow::None));
        bench.feed_all(&[Ok(1.0); 4]);
        bench.exam.cancel().unwrap();
        assert!(bench.feed_all(&[Ok(1.0); 100]).is_none());
        assert_eq!(bench.exam.state(), ExamState { phase: Phase::Cancelled, good: 0, wanted: 5, hint: None });
        bench.feed_all(&[GONE; 7]);
        assert!(bench.feed_all(&[Ok(1.0); 7]).is_some(), "the next patient");
    }

    #[test]
    fn a_glimpse_starts_nothing() {
        let mut bench = Bench::new(1);
        assert!(bench.feed_all(&[Ok(1.0), GONE, Ok(1.0), GONE, Ok(1.0)]).is_none());
        assert_eq!(bench.exam.state().phase, Phase::Aligning);
    }

    #[test]
    fn a_closing_daemon_finishes_the_exam_in_hand_and_starts_no_other() {
        let mut bench = Bench::new(2);
        bench.feed_all(&[Ok(1.0); 3]);
        bench.exam.set_accepting(false);
        assert!(bench.exam.in_hand());
        assert!(bench.feed(Ok(1.0)).is_some());
        bench.feed_all(&[GONE; 10]);
        assert!(bench.feed_all(&[Ok(1.0); 20]).is_none());
        assert_eq!(bench.exam.state().phase, Phase::Idle);
    }

    proptest! {
        /// Whatever the camera sees: never two results without an absence between, and never a verdict from too few frames.
        #[test]
        fn any_sequence_of_frames_keeps_the_promises(kinds in prop::collection::vec(0u8..4, 0..400)) {
            let mut bench = Bench::new(3);
            // Whether the last patient who got a result has left since, and for how many frames nobody was in view.
            let (mut left, mut absent) = (true, 0);
            for kind in kinds {
                let frame = match kind { 0 => GONE, 1 => BLURRED, 2 => Ok(-1.0), _ => Ok(2.0) };
                absent = if frame == GONE { absent + 1 } else { 0 };
                left |= absent > 5;
                if let Some(outcome) = bench.feed(frame) {
                    prop_assert!(left, "a second result for the same patient");
                    left = absent > 5;
                    prop_assert_eq!(outcome.verdict == Verdict::Retake, outcome.probability.is_none());
                    prop_assert!(outcome.verdict == Verdict::Retake || outcome.good == 3);
                }
            }
        }
    }
}
