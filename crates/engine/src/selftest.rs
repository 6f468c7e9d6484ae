//! The self-test: does this network, on this machine, give the answers that it gave where it was made?

use std::path::Path;

use anemia_bundle::{Bundle, Task};
use anemia_vision::{Frame, InputSpec, read_picture};

use crate::{BackEnd, Engine, EngineError};

/// What a self-test compares, for the picture at `path`: the number of a classifier, the mean over the map of a locator.
///
/// `name` is what errors call the picture. It must have the size of `input`.
pub fn answer_to(path: &Path, name: &str, input: &InputSpec, engine: &mut dyn Engine) -> Result<f32, EngineError> {
    let unusable = |cause: String| EngineError::SelfTestPicture { picture: name.to_owned(), cause };
    let mut picture = Frame::default();
    read_picture(path, &mut picture).map_err(|error| unusable(error.to_string()))?;
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
    let spec = bundle.manifest().input.spec();
    let model = bundle.model(engine.precision()).ok();
    let for_board = model.and_then(|model| model.tensorrt.as_ref()).filter(|_| engine.back_end() == BackEnd::TensorRt);
    let answers = match for_board {
        Some(file) => &file.answers[..],
        None => model.map_or(&[][..], |model| &model.answers),
    };
    for (at, test) in bundle.manifest().selftest.iter().enumerate() {
        let expected = answers.get(at).copied().unwrap_or(test.expected);
        let tolerance = for_board.map_or(test.tolerance, |file| file.tolerance);
        let found = answer_to(&bundle.path_of(&test.path), &test.path, &spec, engine)?;
        // How far another runtime may be off is told in logits: probabilities are never far from each other.
        let scale = |value: f32| match for_board {
            Some(_) if bundle.manifest().task == Task::Classify => bundle.manifest().output.kind.to_logit(value),
            _ => value,
        };
        let close = (scale(found) - scale(expected)).abs() <= tolerance;
        if !close {
            return Err(EngineError::SelfTest { picture: test.path.clone(), found, expected, tolerance });
        }
    }
    Ok(())
}
