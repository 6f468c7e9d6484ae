//! The whole way to an answer, from a network to a number: the real shim, compiled against a TensorRT that runs on the
//! processor, and a CUDA driver with nothing but the functions of CUDA 10.2.
// A test whose stage cannot be set may panic.
#![allow(clippy::unwrap_used)]

mod fake;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anemia_tensorrt::{BuildOptions, Context, Device, Runtime, Shim, Stream, TensorRtError};
use tempfile::TempDir;

struct Libraries {
    folder: TempDir,
    shims: Vec<(u32, PathBuf)>,
}

/// Built once; every version is compiled without a warning.
fn libraries() -> &'static Libraries {
    static LIBRARIES: OnceLock<Libraries> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        fake::use_cuda(folder.path());
        let build = |version: u32| {
            let path = folder.path().join(format!("shim-{version}.so"));
            fake::build_shim(version, &path, &[]);
            (version, path)
        };
        let shims = fake::VERSIONS.into_iter().map(build).collect();
        Libraries { folder, shims }
    })
}

fn shim(version: u32) -> Shim {
    let (_, path) = libraries().shims.iter().find(|(one, _)| *one == version).unwrap();
    Shim::open(Some(path)).unwrap()
}

fn build(shim: &Shim, network: &[u8], options: &BuildOptions<'_>) -> Result<Vec<u8>, TensorRtError> {
    shim.build(network, options, &mut |_| true).map(|built| built.plan)
}

fn context(shim: &Shim, plan: &[u8]) -> Result<Context, TensorRtError> {
    Runtime::new(shim)?.load(plan)?.into_context()
}

#[test]
fn every_version_builds_a_plan_and_runs_it() {
    for &version in &fake::VERSIONS {
        let shim = shim(version);
        let library = shim.versions().library;
        assert_eq!((library.major, library.minor, library.patch), (version / 100, version % 100, 1));
        let options = BuildOptions {
            allow_fp16: true,
            workspace_bytes: 1 << 20,
            ranges: &[("image".into(), 2.5)],
            ..BuildOptions::default()
        };
        let mut told = Vec::new();
        let built = shim
            .build(&fake::network(""), &options, &mut |progress| {
                told.push((progress.phase.to_owned(), progress.step, progress.steps));
                true
            })
            .unwrap();
        // TensorRT tells how far it is since version 10, and has neither flags nor ranges since 11.
        let expected: Vec<_> = (0..=3).map(|step| ("Building".to_owned(), step, 3)).collect();
        assert_eq!(told, if version >= 1000 { expected } else { Vec::new() });
        let text = String::from_utf8(built.plan.clone()).unwrap();
        assert_eq!(text.contains("\n fp16\namax 2.5"), version < 1100, "{text}");
        assert!(text.contains("workspace 1048576"), "{text}");
        assert!(String::from_utf8(built.timing_cache).unwrap().starts_with("timing cache"));

        let device = Device::first().unwrap();
        let stream = Stream::new(&device).unwrap();
        let mut engine = Runtime::new(&shim).unwrap().load(&built.plan).unwrap();
        let names: Vec<_> =
            engine.tensors().iter().map(|one| (one.name.as_str(), one.is_input, &one.shape[..])).collect();
        assert_eq!(names, [("image", true, &[1, 3, 8, 8][..]), ("logit", false, &[1, 1][..])]);
        assert!(engine.inspect().unwrap().contains("mean"));
        let mut context = engine.into_context().unwrap();
        let input = context.bind("image", &device).unwrap();
        let output = context.bind("logit", &device).unwrap();
        for factor in [1.0f32, -2.0] {
            let values = context.values(input);
            assert_eq!(values.len(), 192);
            values.iter_mut().enumerate().for_each(|(at, value)| *value = factor * at as f32);
            context.run(&stream).unwrap();
            assert_eq!(context.values(output), [factor * 95.5]);
        }
    }
}

#[test]
fn the_platform_is_told_where_the_version_tells_it() {
    let platform = shim(802).platform().unwrap();
    assert_eq!((platform.fast_fp16, platform.fast_int8, platform.dla_cores), (Some(true), Some(true), Some(2)));
    assert_eq!(shim(1100).platform().unwrap().fast_int8, None);
    let device = Device::first().unwrap();
    assert_eq!(device.compute_capability().unwrap(), (7, 2));
    assert_eq!((device.name().unwrap().as_str(), device.driver_version().unwrap()), ("Fake", (10, 2)));
}

#[test]
fn what_fails_is_told_in_tensorrts_words() {
    let shim = shim(805);
    let error = |faults: &str| build(&shim, &fake::network(faults), &BuildOptions::default()).unwrap_err();
    let memory = error("build-out-of-memory");
    assert!(matches!(memory, TensorRtError::OutOfMemory(_)), "{memory}");
    let refused = error("build-fails");
    assert!(
        matches!(&refused, TensorRtError::Refused(text) if text.contains("no implementation for node 7")),
        "{refused}"
    );
    // A lack of memory that TensorRT found a way around is not what failed in the end.
    let refused = error("tight-memory build-fails");
    assert!(matches!(refused, TensorRtError::Refused(_)), "{refused}");
    assert!(build(&shim, &fake::network("tight-memory"), &BuildOptions::default()).is_ok());
    let unread = build(&shim, b"nonsense", &BuildOptions::default()).unwrap_err().to_string();
    assert!(unread.contains("does not read the network; node 0: the metadata has no line"), "{unread}");

    let plan = |faults: &str| build(&shim, &fake::network(faults), &BuildOptions::default()).unwrap();
    let memory = context(&shim, &plan("load-out-of-memory")).err().unwrap();
    assert!(matches!(memory, TensorRtError::OutOfMemory(_)), "{memory}");

    let device = Device::first().unwrap();
    let stream = Stream::new(&device).unwrap();
    let mut unbound = context(&shim, &plan("")).unwrap();
    assert!(unbound.run(&stream).unwrap_err().to_string().contains("an address is missing"));
    assert!(unbound.bind("mask", &device).unwrap_err().to_string().contains("no tensor \"mask\""));
    let mut failing = context(&shim, &plan("run-fails")).unwrap();
    for name in ["image", "logit"] {
        failing.bind(name, &device).unwrap();
    }
    assert!(failing.run(&stream).unwrap_err().to_string().contains("illegal memory access"));
}

/// TensorRT before 8.4 keeps the logger of the object that was there first: what one says must reach whoever asked, and must not
/// go to a logger that is gone.
#[test]
fn every_object_says_what_it_has_to_say_whatever_lives_beside_it() {
    let shim = shim(802);
    let plan = build(&shim, &fake::network(""), &BuildOptions::default()).unwrap();
    let older = context(&shim, &plan).unwrap();
    let error = || build(&shim, &fake::network("build-fails"), &BuildOptions::default()).unwrap_err().to_string();
    assert!(error().contains("no implementation for node 7"));
    let newer = context(&shim, &plan).unwrap();
    drop(older);
    assert!(error().contains("no implementation for node 7"));
    drop(newer);
}

#[test]
fn a_foreign_or_damaged_plan_is_refused() {
    let newer = shim(805);
    let old = build(&shim(804), &fake::network(""), &BuildOptions::default()).unwrap();
    let foreign = context(&newer, &old).err().unwrap();
    assert!(
        matches!(&foreign, TensorRtError::BadPlan(text) if text.contains("not compatible with this version")),
        "{foreign}"
    );
    let mut damaged = build(&newer, &fake::network(""), &BuildOptions::default()).unwrap();
    let last = damaged.len() - 2;
    damaged[last] ^= 1;
    for plan in [&damaged[..], &damaged[..20], &[]] {
        assert!(matches!(context(&newer, plan).err().unwrap(), TensorRtError::BadPlan(_)));
    }
}

#[test]
fn a_timing_cache_that_does_not_fit_is_left_aside() {
    let shim = shim(806);
    let options = BuildOptions { timing_cache: b"timing cache of", ..BuildOptions::default() };
    let built = shim.build(&fake::network(""), &options, &mut |_| true).unwrap();
    let used = |plan: &[u8]| String::from_utf8_lossy(plan).contains("with a timing cache");
    assert!(!used(&built.plan));
    let options = BuildOptions { timing_cache: &built.timing_cache, ..BuildOptions::default() };
    assert!(used(&shim.build(&fake::network(""), &options, &mut |_| true).unwrap().plan));
}

#[test]
fn a_build_can_be_stopped_and_a_panic_stops_it() {
    let shim = shim(1000);
    let stopped = shim.build(&fake::network(""), &BuildOptions::default(), &mut |progress| progress.step < 2);
    assert!(matches!(stopped, Err(TensorRtError::Cancelled)));
    let panicked = shim.build(&fake::network(""), &BuildOptions::default(), &mut |_| panic!("in the callback"));
    assert!(matches!(panicked, Err(TensorRtError::Cancelled)));
}

#[test]
fn what_is_no_shim_or_the_wrong_one_is_named() {
    let folder = libraries().folder.path();
    let error = |path: &Path| Shim::open(Some(path)).err().unwrap().to_string();
    let missing = error(Path::new("/nowhere/libanemia_tensorrt.so"));
    assert!(
        missing.contains("looked for /nowhere/libanemia_tensorrt.so")
            && missing.contains("sudo anemiad-tensorrt-build"),
        "{missing}"
    );

    let text = folder.join("text.so");
    std::fs::write(&text, "not a library").unwrap();
    assert!(error(&text).contains("cannot be opened"), "{}", error(&text));
    assert!(error(&folder.join("libcuda.so")).contains("it has no att_abi"));

    let other = folder.join("other.so");
    fake::build_shim(805, &other, &["-DFAKE_LIBRARY=8201"]);
    assert!(error(&other).contains("was built for TensorRT 8.5.1, and 8.2.1 is installed"), "{}", error(&other));

    let source = folder.join("abi.c");
    std::fs::write(&source, "int att_abi(void) { return 99; }").unwrap();
    let abi = folder.join("abi.so");
    let compiled = std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&abi, &source]).status();
    assert!(compiled.unwrap().success());
    assert!(error(&abi).contains("interface 99, expected 1"), "{}", error(&abi));
}
