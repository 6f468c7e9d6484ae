//! int8 here and by ONNX Runtime's own `quantize_static`, on the networks of a cross-validation: what is lost on the pictures
//! that they have not seen, the size of the file, and the time it takes to make and to run. `make bench-calibrate` calls it.
// A benchmark may panic and print.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anemia_bundle::Precision;
use anemia_calibrator::folds::{Fold, Run};
use anemia_calibrator::network::Map;
use anemia_calibrator::quantize::{self, Format};
use anemia_calibrator::{Recipe, write};
use anemia_evaluation::{Confusion, Judged, Prediction, auc};

/// Calibration pictures of each fold.
const PICTURES: usize = 128;

#[derive(Default)]
struct Found {
    judged: Vec<Judged>,
    kept: usize,
    bytes: usize,
    seconds: f64,
    milliseconds: Vec<f64>,
}

fn main() {
    let [Ok(run), Ok(data), Ok(python)] = ["RUN", "DATA", "PYTHON"].map(std::env::var) else {
        println!("skipped: RUN, DATA and PYTHON are not set; see scripts/bench-calibrate.sh");
        return;
    };
    let run = Run::read(Path::new(&run)).unwrap();
    let recipe = Recipe::find("best").unwrap();
    let mut all: [Found; 3] = Default::default();
    for fold in &run.folds {
        let calibration = run.calibration(fold, Path::new(&data), PICTURES).unwrap();
        let test = fold.unseen(Path::new(&data)).unwrap();

        let start = Instant::now();
        let own = quantize::int8(&fold.network, &calibration, Format::Unsigned, &recipe).unwrap();
        let temperature = own.temperature;
        let own = anemia_onnx::encode(&write::int8_onnxruntime(&own));
        let seconds = start.elapsed().as_secs_f64();
        let (theirs, their_seconds) = theirs(&python, fold, &calibration);

        let networks = [
            (&fold.bytes, Precision::Fp32, 0.0, 1.0),
            (&own, Precision::Int8, seconds, temperature),
            (&theirs, Precision::Int8, their_seconds, 1.0),
        ];
        let mut reference = Vec::new();
        for ((bytes, precision, seconds, temperature), found) in networks.into_iter().zip(&mut all) {
            let logits = judge(fold, bytes, precision, &test, &mut found.milliseconds);
            if precision == Precision::Fp32 {
                reference.clone_from(&logits);
            }
            found.kept += logits.iter().zip(&reference).filter(|(a, b)| (**a >= 0.0) == (**b >= 0.0)).count();
            let judged =
                |(one, logit): (&Prediction, &f32)| Prediction { logit: *logit / temperature, ..one.clone() }.judged();
            found.judged.extend(fold.test.iter().zip(&logits).map(judged));
            found.bytes += bytes.len();
            found.seconds += seconds;
        }
    }
    println!("{} protocol, {} folds, {} pictures", run.protocol, run.folds.len(), all[0].judged.len());
    println!("                  accuracy  AUC     verdicts kept  bytes    made in  ms on one thread");
    for (name, found) in ["fp32", "int8, here", "quantize_static"].iter().zip(&mut all) {
        let folds = run.folds.len();
        found.milliseconds.sort_by(f64::total_cmp);
        println!(
            "{name:<17} {:.4}    {:.4}  {:.4}         {:<8} {:>4.1} s   {:.2}",
            Confusion::at(&found.judged, 0.5).accuracy().unwrap(),
            auc(&found.judged).unwrap(),
            found.kept as f64 / found.judged.len() as f64,
            found.bytes / folds,
            found.seconds / folds as f64,
            found.milliseconds[found.milliseconds.len() / 2]
        );
    }
}

fn theirs(python: &str, fold: &Fold, calibration: &[Map]) -> (Vec<u8>, f64) {
    let folder = tempfile::tempdir().unwrap();
    let [pictures, out] = ["pictures.f32", "out.onnx"].map(|name| folder.path().join(name));
    let bytes: Vec<u8> = calibration.iter().flat_map(|map| &map.values).flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(&pictures, bytes).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/bench-calibrate.py");
    let run = Command::new(python).arg(script).args([&fold.file, &pictures, &out]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    let seconds = said.lines().last().and_then(|line| line.trim().parse().ok());
    let seconds = seconds.unwrap_or_else(|| panic!("{python}: {said}{}", String::from_utf8_lossy(&run.stderr)));
    (std::fs::read(out).unwrap(), seconds)
}

fn judge(fold: &Fold, network: &[u8], precision: Precision, test: &[Map], times: &mut Vec<f64>) -> Vec<f32> {
    let mut engine = fold.engine(network, precision).unwrap();
    let one = |map: &Map| {
        engine.input().copy_from_slice(&map.values);
        let start = Instant::now();
        let logit = engine.run().unwrap()[0];
        times.push(start.elapsed().as_secs_f64() * 1e3);
        logit
    };
    test.iter().map(one).collect()
}
