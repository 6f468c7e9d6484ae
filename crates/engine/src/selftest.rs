//! The self-test: does this network, on this machine, give the answers that it gave where it was made?

use anemia_bundle::{Bundle, Precision, SelfTest, Task};
use anemia_vision::{Frame, decode_picture};

use crate::{BackEnd, Engine, EngineError};

/// How far the logit of an int8 classifier may be off in ONNX Runtime; those of pictures end at 1, too. On another processor a value in
/// the middle between two integers may fall to the other side, and the network does much with that.
const INTEGERS: f32 = 1.0;
/// How far it may be off at most, as a share of what lies between its least and its greatest answer: with less than a half, nothing
/// that says the same of all pictures passes.
const OF_SPREAD: f32 = 0.25;
/// How far it may be off also where the answers lie close together: healthy processors were seen 0.1 apart.
const HEALTHY: f32 = 0.2;

/// What the self-test compares for one of the bundle's pictures, which must have the size of its input: the number of a
/// classifier, the mean over the map of a locator.
pub fn answer_to(test: &SelfTest, bundle: &Bundle, engine: &mut dyn Engine) -> Result<f32, EngineError> {
    let unusable = |cause: String| EngineError::SelfTestPicture { picture: test.path.clone(), cause };
    let input = bundle.manifest().input.spec();
    let mut picture = Frame::default();
    let bytes = bundle.read_file(&test.path, &test.sha256)?;
    decode_picture(&bytes, &mut picture).map_err(|error| unusable(error.to_string()))?;
    let (width, height) = (picture.width(), picture.height());
    if (width, height) != (input.width, input.height) {
        return Err(unusable(format!("{width}×{height} pixels; expected {}×{}", input.width, input.height)));
    }
    input.write(picture.rgb(), engine.input());
    let output = engine.run()?;
    Ok(output.iter().sum::<f32>() / output.len() as f32)
}

/// Runs every picture of the bundle's self-test through `engine`.
pub fn self_test(bundle: &Bundle, engine: &mut dyn Engine) -> Result<(), EngineError> {
    let model = bundle.model(engine.precision()).ok();
    let for_board = model.and_then(|model| model.tensorrt.as_ref()).filter(|_| engine.back_end() == BackEnd::TensorRt);
    let is_classifier = bundle.manifest().task == Task::Classify;
    // In place of those of the pictures, and in logits where there are any.
    let own_tolerance = match for_board {
        Some(file) => Some(file.tolerance),
        None => (is_classifier && engine.precision() == Precision::Int8).then_some(INTEGERS),
    };
    let answers = match for_board {
        Some(file) => &file.answers[..],
        None => model.map_or(&[][..], |model| &model.answers),
    };
    // How far integers or another runtime may be off is told in logits: probabilities are never far from each other.
    let in_logits = is_classifier && own_tolerance.is_some();
    let scale = |value: f32| if in_logits { bundle.manifest().output.kind.to_logit(value) } else { value };
    let tests = &bundle.manifest().selftest;
    let expected: Vec<f32> =
        tests.iter().enumerate().map(|(at, test)| answers.get(at).copied().unwrap_or(test.expected)).collect();
    let spread = expected
        .iter()
        .map(|&one| scale(one))
        .fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], one| [low.min(one), high.max(one)]);
    let by_spread = (spread[1] - spread[0]) * OF_SPREAD;
    let own_tolerance =
        own_tolerance.map(|most| if in_logits && by_spread > 0.0 { most.min(by_spread.max(HEALTHY)) } else { most });
    for (test, &expected) in tests.iter().zip(&expected) {
        let tolerance = own_tolerance.unwrap_or(test.tolerance);
        let found = answer_to(test, bundle, engine)?;
        let close = (scale(found) - scale(expected)).abs() <= tolerance;
        if !close {
            return Err(EngineError::SelfTest { picture: test.path.clone(), found, expected, tolerance });
        }
    }
    Ok(())
}
