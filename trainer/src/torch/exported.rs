//! What ONNX Runtime makes of an exported network is what libtorch makes of the trained one.

use anemia_bundle::{Bundle, Input, OperatingPoint, Output, OutputKind, Precision, Task, Training};
use anemia_engine::EngineOptions;
use tch::{Device, Kind, Tensor, no_grad};

use super::{Mode, Weights, forward, normalise};
use crate::bundle::{Content, write};
use crate::network::{INPUT, MEAN, Network, STD, colours, export, lid_net, mobilenet_v2};

const SIZE: i64 = 96;
const TRAIN: Mode = Mode { batch_statistics: |_| true, dropout: 0.0, apart: false };

/// The output of both for one picture.
fn both(network: &Network, task: Task, [mean, std]: [f32; 2]) -> (Vec<f32>, Vec<f32>) {
    let mut weights = Weights::random(network, Device::Cpu, 5);
    // Statistics as a training would leave them, far from 0 and 1.
    no_grad(|| {
        let pictures = Tensor::randint(256, [8, 3, SIZE, SIZE], (Kind::Uint8, Device::Cpu));
        let pictures = normalise(&pictures, [mean; 3], [std; 3]);
        for _ in 0..4 {
            let _ = forward(network, &weights, &pictures, TRAIN);
        }
    });
    weights.trained = weights.trained.detach();
    let values = weights.values();
    let model = export(network, &values, SIZE, "answer").unwrap();
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("bundle");
    let content = Content {
        name: "test".into(),
        version: "0".into(),
        task,
        input: Input {
            name: INPUT.into(),
            width: SIZE as u32,
            height: SIZE as u32,
            mean: [mean; 3],
            std: [std; 3],
            rim: 0,
            smooth: 0.0,
        },
        output: Output { name: "answer".into(), kind: OutputKind::Logit },
        operating_point: (task == Task::Classify).then_some(OperatingPoint {
            threshold: 0.5,
            indeterminate: [0.4, 0.6],
            temperature: 1.0,
        }),
        metrics: Vec::new(),
        training: Training {
            data: "none".into(),
            age_months: [6, 59],
            anemic_below_g_per_dl: 11.0,
            limits: "a test".into(),
        },
        network: anemia_onnx::encode(&model),
        card: b"# Card".to_vec(),
    };
    write(&folder, content).unwrap();
    let bundle = Bundle::open(&folder).unwrap();
    let mut engine = anemia_engine::load(&bundle, Precision::Fp32, &EngineOptions::default()).unwrap();
    anemia_engine::self_test(&bundle, engine.as_mut()).unwrap();

    // Half of the picture is black, as outside the tissue.
    let picture = Tensor::randint_low(8, 256, [1, 3, SIZE, SIZE], (Kind::Uint8, Device::Cpu));
    let _ = picture.narrow(3, 0, SIZE / 2).fill_(0);
    let picture = normalise(&picture, [mean; 3], [std; 3]);
    let flat = Vec::<f32>::try_from(&picture.view(-1)).unwrap();
    engine.input().copy_from_slice(&flat);
    let found = engine.run().unwrap().to_vec();
    let expected = no_grad(|| forward(network, &weights, &picture, Mode::MEASURE));
    (found, Vec::<f32>::try_from(&expected.contiguous().view(-1)).unwrap())
}

#[test]
fn exported_networks_give_the_same_numbers() {
    for (network, task, conventions) in [
        (mobilenet_v2(1e-3), Task::Classify, [0.5; 2]),
        (colours(1e-3), Task::Classify, [MEAN, STD]),
        (lid_net(1e-3), Task::Locate, [0.5; 2]),
    ] {
        let (found, expected) = both(&network, task, conventions);
        assert_eq!(found.len(), expected.len());
        let scale = expected.iter().fold(1.0f32, |most, value| most.max(value.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4 * scale, "{task:?}: {found} and not {expected}");
        }
    }
}
