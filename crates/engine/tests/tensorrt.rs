//! The TensorRT back end against the real shim, on a TensorRT and a CUDA driver that run on the processor.
// A test whose stage cannot be set may panic.
#![allow(clippy::unwrap_used)]

#[path = "../../tensorrt/tests/fake/mod.rs"]
mod fake;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anemia_bundle::{Bundle, ModelFile, Precision, SelfTest, Sha256, TensorRtFile};
use anemia_engine::{
    BackEnd, Building, EngineError, EngineOptions, KeptPlan, TensorRtOptions, check, kept_plans, load, load_fastest,
    load_following,
};
use support::{TestBundle, bundle, bundle_with, mean};
use tempfile::TempDir;

/// The shim of TensorRT 8.5 and of 10, which tells how far a build is.
fn shims() -> &'static [PathBuf; 2] {
    static SHIMS: OnceLock<(TempDir, [PathBuf; 2])> = OnceLock::new();
    let (_, shims) = SHIMS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        fake::use_cuda(folder.path());
        let build = |version: u32| {
            let path = folder.path().join(format!("shim-{version}.so"));
            fake::build_shim(version, &path, &[]);
            path
        };
        let shims = [build(805), build(1000)];
        (folder, shims)
    });
    shims
}

struct Kiosk {
    cache: TempDir,
    options: EngineOptions,
}

impl Kiosk {
    fn new(shim: usize) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let tensorrt = TensorRtOptions {
            library: Some(shims()[shim].clone()),
            cache: cache.path().join("plans"),
            workspace_mib: 64,
        };
        Self { cache, options: EngineOptions { tensorrt: Some(tensorrt), ..EngineOptions::default() } }
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join("plans")
    }

    fn plans(&self) -> Vec<KeptPlan> {
        kept_plans(&self.folder()).unwrap()
    }

    fn plan_file(&self) -> PathBuf {
        let files = fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path());
        files.into_iter().find(|path| path.extension().is_some_and(|end| end == "plan")).unwrap()
    }

    /// Loads, lets the network run, and says how many builds that took.
    fn builds(&self, bundle: &Bundle) -> usize {
        let mut builds = 0;
        let mut engine = load_following(bundle, Precision::Fp32, &self.options, &mut |building| {
            builds += usize::from(matches!(building, Building::Started(_)));
            true
        })
        .unwrap();
        engine.input().fill(0.25);
        assert_eq!(engine.run().unwrap(), [0.25]);
        builds
    }
}

/// With a network for each precision, whose self-test asks for the mean of a picture of one colour.
fn with(networks: &[(Precision, &str)]) -> TestBundle {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("grey.png");
    anemia_vision::write_png(&picture, 8, 8, &[51; 8 * 8 * 3]).unwrap();
    let picture = fs::read(picture).unwrap();
    let files: Vec<(String, Vec<u8>)> =
        networks.iter().map(|(precision, faults)| (format!("{precision}-own.onnx"), mean(faults))).collect();
    let mut all: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    all.push(("grey.png", &picture));
    bundle_with(&mean(""), &all, |manifest| {
        let fp32 = manifest.models.remove(0);
        manifest.files.push(anemia_bundle::FileEntry { path: fp32.path.clone(), sha256: fp32.sha256.clone() });
        for ((precision, _), (name, bytes)) in networks.iter().zip(&files) {
            let (path, sha256) = (name.clone(), Sha256::of(bytes));
            let tensorrt = (*precision == Precision::Int8).then(|| TensorRtFile {
                path: path.clone(),
                sha256: sha256.clone(),
                answers: vec![0.2],
                tolerance: 0.5,
            });
            manifest.models.push(ModelFile { precision: *precision, path, sha256, tensorrt, ..fp32.clone() });
        }
        let sha256 = Sha256::of(&picture);
        manifest.selftest = vec![SelfTest { path: "grey.png".into(), sha256, expected: 0.2, tolerance: 0.001 }];
    })
}

#[test]
fn a_plan_is_built_once_and_found_again() {
    let (test, kiosk) = (bundle(&mean(""), |_| {}), Kiosk::new(0));
    let mut engine = load(&test.bundle, Precision::Fp32, &kiosk.options).unwrap();
    assert_eq!((engine.name(), engine.back_end()), ("tensorrt 8.5.1", BackEnd::TensorRt));
    assert_eq!(engine.run().unwrap(), [0.0], "a fresh input is zero");
    for value in [0.25, 0.75] {
        engine.input().fill(value);
        assert_eq!(engine.run().unwrap(), [value]);
    }
    // The thread that runs it need not be the one that loaded it.
    let mut engine = std::thread::spawn(move || engine.run().map(|values| values[0]).map(|value| (engine, value)))
        .join()
        .unwrap()
        .unwrap()
        .0;
    engine.input().fill(f32::NAN);
    assert!(matches!(engine.run(), Err(EngineError::NoNumber(_))));

    assert_eq!(kiosk.builds(&test.bundle), 0);
    let plans = kiosk.plans();
    assert_eq!(plans.len(), 1);
    assert_eq!((plans[0].model.as_str(), plans[0].key.tensorrt.as_str()), ("test 0", "tensorrt 8.5.1"));
    assert_eq!((plans[0].key.compute_capability, plans[0].key.cuda.as_str()), ((7, 2), "10.2"));
}

#[test]
fn another_tensorrt_or_another_network_needs_another_plan() {
    let (test, mut kiosk) = (bundle(&mean(""), |_| {}), Kiosk::new(0));
    assert_eq!(kiosk.builds(&test.bundle), 1);
    kiosk.options.tensorrt.as_mut().unwrap().library = Some(shims()[1].clone());
    assert_eq!(kiosk.builds(&test.bundle), 1);
    assert_eq!(kiosk.builds(&bundle(&mean("other"), |_| {}).bundle), 1);
    assert_eq!(kiosk.plans().len(), 3);
    assert_eq!(kiosk.builds(&test.bundle), 0);
}

#[test]
fn a_damaged_plan_or_timing_cache_is_built_again() {
    let (test, kiosk) = (bundle(&mean(""), |_| {}), Kiosk::new(0));
    assert_eq!(kiosk.builds(&test.bundle), 1);
    let plan = kiosk.plan_file();
    for damage in [&b"cut"[..], b""] {
        fs::write(&plan, damage).unwrap();
        assert_eq!(kiosk.builds(&test.bundle), 1, "damaged");
        assert_eq!(kiosk.builds(&test.bundle), 0, "built again");
    }
    // A plan that is whole and that TensorRT does not accept, as after an update that kept its version.
    let description = plan.with_extension("json");
    let mut kept: KeptPlan = serde_json::from_slice(&fs::read(&description).unwrap()).unwrap();
    fs::write(&plan, b"plan of another TensorRT").unwrap();
    kept.plan_sha256 = Sha256::of(b"plan of another TensorRT");
    fs::write(&description, serde_json::to_vec(&kept).unwrap()).unwrap();
    assert_eq!(kiosk.builds(&test.bundle), 1, "foreign");
    fs::write(&description, b"{").unwrap();
    let timing = fs::read_dir(kiosk.folder()).unwrap().map(|entry| entry.unwrap().path());
    let timing = timing.into_iter().find(|path| path.extension().is_some_and(|end| end == "cache")).unwrap();
    fs::write(&timing, b"timing").unwrap();
    assert_eq!(kiosk.builds(&test.bundle), 1, "without a description and with half a timing cache");
    assert!(fs::read(&timing).unwrap().starts_with(b"timing cache of fake"));
}

/// Puts the plan of a network that gives other numbers under the name of the one that is kept.
fn spoil(kiosk: &Kiosk) {
    let (plan, kept) = (kiosk.plan_file(), kiosk.plans().remove(0));
    let scratch = Kiosk::new(0);
    load(
        &bundle(&mean("adds-seven"), |manifest| manifest.task = anemia_bundle::Task::Locate).bundle,
        Precision::Fp32,
        &scratch.options,
    )
    .unwrap();
    let wrong = fs::read(scratch.plan_file()).unwrap();
    fs::write(&plan, &wrong).unwrap();
    let kept = KeptPlan { plan_sha256: Sha256::of(&wrong), ..kept };
    fs::write(plan.with_extension("json"), serde_json::to_vec(&kept).unwrap()).unwrap();
}

#[test]
fn a_kept_plan_that_answers_wrongly_is_built_again() {
    let (test, kiosk) = (with(&[(Precision::Fp32, "")]), Kiosk::new(0));
    assert_eq!(kiosk.builds(&test.bundle), 1);
    spoil(&kiosk);
    assert_eq!(kiosk.builds(&test.bundle), 1);
    assert_eq!(kiosk.builds(&test.bundle), 0);
}

#[test]
fn a_network_that_is_wrong_on_this_board_is_built_once_and_refused_from_then_on() {
    let (test, kiosk) = (with(&[(Precision::Fp32, "adds-seven")]), Kiosk::new(0));
    let first = load(&test.bundle, Precision::Fp32, &kiosk.options).err().unwrap();
    assert!(matches!(first, EngineError::SelfTest { .. }), "{first}");
    let mut builds = 0;
    let again = load_following(&test.bundle, Precision::Fp32, &kiosk.options, &mut |_| {
        builds += 1;
        true
    });
    let text = again.err().unwrap().to_string();
    assert!(builds == 0 && text.contains("self-test failed on grey.png") && text.contains("remove"), "{builds} {text}");
}

#[test]
fn int8_needs_a_network_for_tensorrt_and_answers_of_its_own() {
    let kiosk = Kiosk::new(0);
    let test = with(&[(Precision::Int8, "")]);
    load(&test.bundle, Precision::Int8, &kiosk.options).unwrap();
    let bare = bundle(&mean(""), |manifest| manifest.models[0].precision = Precision::Int8);
    let error = check(&bare.bundle, Some(Precision::Int8), &kiosk.options).unwrap_err().to_string();
    assert!(error.contains("its int8 network is for ONNX Runtime alone"), "{error}");
    let error = check(&bare.bundle, None, &kiosk.options).unwrap_err();
    assert!(!error.may_pass() && error.to_string().contains("none of the precisions"), "{error}");
}

#[test]
fn without_a_folder_that_can_be_written_it_runs_all_the_same() {
    let (test, mut kiosk) = (bundle(&mean(""), |_| {}), Kiosk::new(0));
    let file = kiosk.cache.path().join("file");
    fs::write(&file, "").unwrap();
    kiosk.options.tensorrt.as_mut().unwrap().cache = file.join("plans");
    assert_eq!(kiosk.builds(&test.bundle), 1);
    assert_eq!(kiosk.builds(&test.bundle), 1);
}

#[test]
fn a_build_tells_how_far_it_is_and_can_be_stopped() {
    let (test, kiosk) = (bundle(&mean(""), |_| {}), Kiosk::new(1));
    let mut told = Vec::new();
    let stopped = load_following(&test.bundle, Precision::Fp32, &kiosk.options, &mut |building| {
        told.push(format!("{building:?}"));
        !matches!(building, Building::Step { step: 2, .. })
    });
    assert!(stopped.err().unwrap().may_pass());
    let step = |step: u32| format!("Step {{ precision: Fp32, phase: \"Building\", step: {step}, steps: 3 }}");
    assert_eq!(told, ["Started(Fp32)".into(), step(0), step(1), step(2), "Ended(Fp32)".into()]);
    assert!(kiosk.plans().is_empty());
}

#[test]
fn two_that_build_at_once_build_once() {
    let (test, kiosk) = (bundle(&mean("slow-build"), |_| {}), Kiosk::new(0));
    let builds: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| kiosk.builds(&test.bundle))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(builds, 1);
    // Who waits is told, and need not go on waiting.
    let other = bundle(&mean("slow-build other"), |_| {});
    std::thread::scope(|scope| {
        let first = scope.spawn(|| kiosk.builds(&other.bundle));
        while !kiosk.folder().join("lock").exists()
            || fs::File::open(kiosk.folder().join("lock")).unwrap().try_lock().is_ok()
        {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let stopped = load_following(&test_without_plan().bundle, Precision::Fp32, &kiosk.options, &mut |building| {
            building != Building::Waiting
        });
        assert!(stopped.err().unwrap().to_string().contains("the build was stopped"));
        assert_eq!(first.join().unwrap(), 1);
    });
}

fn test_without_plan() -> TestBundle {
    bundle(&mean("third"), |_| {})
}

#[test]
fn what_fails_is_told_in_one_line() {
    let kiosk = Kiosk::new(0);
    let error = |faults: &str| {
        let test = bundle(&mean(faults), |_| {});
        let error = load(&test.bundle, Precision::Fp32, &kiosk.options).err().unwrap();
        assert!(!error.to_string().contains('\n'), "{error}");
        error
    };
    let memory = error("build-out-of-memory");
    assert!(memory.may_pass() && memory.to_string().contains("ran out of memory"), "{memory}");
    let unsupported = error("build-fails");
    assert!(
        !unsupported.may_pass()
            && unsupported.to_string().contains("fp32.onnx: cannot be loaded: TensorRT built no plan")
    );
    assert!(error("load-out-of-memory").may_pass());

    let test = bundle(&mean("run-fails"), |_| {});
    let mut engine = load(&test.bundle, Precision::Fp32, &kiosk.options).unwrap();
    let failed = engine.run().unwrap_err();
    assert!(matches!(&failed, EngineError::Failed(text) if text.contains("illegal memory access")), "{failed}");

    let size = bundle(&mean(""), |manifest| manifest.input.width = 16);
    let message = load(&size.bundle, Precision::Fp32, &kiosk.options).err().unwrap().to_string();
    assert!(message.contains("input is \"image\" of shape [1, 3, 8, 8]"), "{message}");
    let mut options = kiosk.options.clone();
    options.tensorrt.as_mut().unwrap().library = Some(Path::new("/nowhere/shim.so").to_owned());
    let missing = load(&test.bundle, Precision::Fp32, &options).err().unwrap();
    assert!(!missing.may_pass() && missing.to_string().contains("/nowhere/shim.so"), "{missing}");
}

#[test]
fn auto_takes_the_fastest_of_those_that_are_right() {
    let test = with(&[
        (Precision::Fp32, "slow-run"),
        (Precision::Fp16, "adds-seven"),
        (Precision::Int8, "build-fails"),
        (Precision::Int4, ""),
    ]);
    let kiosk = Kiosk::new(0);
    let engine = load_fastest(&test.bundle, &kiosk.options, &mut |_| true).unwrap();
    assert_eq!((engine.precision(), engine.name()), (Precision::Int4, "tensorrt 8.5.1 (int4 storage, fp16 compute)"));
    let kept: Vec<_> = kiosk.plans().into_iter().map(|plan| (plan.key.precision, plan.refused.is_some())).collect();
    assert_eq!(kept, [(Precision::Fp32, false), (Precision::Fp16, true), (Precision::Int4, false)]);

    let wrong = bundle(&mean("run-fails"), |_| {});
    let error = load_fastest(&wrong.bundle, &kiosk.options, &mut |_| true).err().unwrap();
    assert!(error.may_pass() && error.to_string().contains("inference failed"), "{error}");
    let mut options = kiosk.options.clone();
    options.tensorrt.as_mut().unwrap().library = Some("/nowhere/shim.so".into());
    let error = load_fastest(&test.bundle, &options, &mut |_| true).err().unwrap();
    assert!(matches!(error, EngineError::TensorRt(_)), "what is wrong with the machine is told as it is: {error}");
}

#[test]
fn a_plan_can_be_read_by_everybody_and_written_by_one() {
    let (test, kiosk) = (bundle(&mean(""), |_| {}), Kiosk::new(0));
    kiosk.builds(&test.bundle);
    assert_eq!(fs::metadata(kiosk.plan_file()).unwrap().permissions().mode() & 0o777, 0o644);
}
