//! The self-test: does this network, on this machine, give the answers that it gave where it was made?

use anemia_bundle::Bundle;
use anemia_vision::{Frame, read_picture};

use crate::{Engine, EngineError};

/// What a self-test compares: the number of a classifier, the mean over the map of a locator.
pub fn answer(output: &[f32]) -> f32 {
    output.iter().sum::<f32>() / output.len() as f32
}

/// Runs every picture of the bundle's self-test through `engine`.
pub fn self_test(bundle: &Bundle, engine: &mut dyn Engine) -> Result<(), EngineError> {
    let spec = bundle.manifest().input.spec();
    let mut picture = Frame::default();
    let answers = bundle.model(engine.precision()).map_or(&[][..], |model| &model.answers);
    for (at, test) in bundle.manifest().selftest.iter().enumerate() {
        let expected = answers.get(at).copied().unwrap_or(test.expected);
        let unusable = |cause: String| EngineError::SelfTestPicture { picture: test.path.clone(), cause };
        read_picture(&bundle.path_of(&test.path), &mut picture).map_err(|error| unusable(error.to_string()))?;
        if (picture.width(), picture.height()) != (spec.width, spec.height) {
            let (width, height) = (picture.width(), picture.height());
            return Err(unusable(format!("{width}×{height} pixels; expected {}×{}", spec.width, spec.height)));
        }
        spec.write(picture.rgb(), engine.input());
        let found = answer(engine.run()?);
        let close = (found - expected).abs() <= test.tolerance;
        if !close {
            let tolerance = test.tolerance;
            return Err(EngineError::SelfTest { picture: test.path.clone(), found, expected, tolerance });
        }
    }
    Ok(())
}
