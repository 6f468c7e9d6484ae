//! Finding and opening `libonnxruntime.so`.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::AsPointer;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};

use crate::EngineError;

/// The environment variable that names the library; `ort` itself uses the same.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

const FILE: &str = "libonnxruntime.so";
/// Where packages put it.
const SYSTEM_FOLDERS: [&str; 6] = [
    "/usr/lib/anemiad",
    "/usr/local/lib",
    "/usr/lib",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/opt/onnxruntime/lib",
];

/// The library: the path that is asked for, or else the one in [`LIBRARY_VARIABLE`], or else the first that exists
/// beside the program, in the source folder whose `target` folder holds the program, or in a system folder.
pub fn find_library(asked_for: Option<&Path>) -> Result<PathBuf, EngineError> {
    let from_variable = || std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let candidates = match asked_for.map(Path::to_owned).or_else(from_variable) {
        Some(path) => vec![path],
        None => usual_places(),
    };
    match candidates.iter().find(|path| path.is_file()) {
        // The loader would look for a relative path beside the program.
        Some(found) => Ok(std::path::absolute(found).unwrap_or_else(|_| found.clone())),
        None => Err(EngineError::LibraryMissing { looked_for: candidates }),
    }
}

/// Opens the library that [`find_library`] finds, as every network does; gives its path and its version.
pub fn open_library(asked_for: Option<&Path>) -> Result<(PathBuf, String), EngineError> {
    open(asked_for).map(|opened| (opened.path, opened.version))
}

/// Keeps ONNX Runtime from giving this machine a number, collecting events and sending them to its maker. It begins with that
/// when it is loaded, before it can be told not to; only this variable comes first. To be called at the very beginning: it does
/// nothing once the process has a second thread, or where the variable is set.
pub fn forbid_telemetry() {
    const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";
    let is_alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if is_alone && std::env::var_os(VARIABLE).is_none() {
        // SAFETY: there is no other thread that could read the environment meanwhile.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(VARIABLE, "1");
        }
    }
}

/// The source folder, for a program that still stands in its `target` folder.
pub fn source_folder() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let target = program.ancestors().skip(1).find(|folder| folder.ends_with("target"))?;
    target.parent().map(Path::to_owned)
}

fn usual_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Ok(program) = std::env::current_exe() {
        places.extend(program.parent().map(|folder| folder.join(FILE)));
    }
    places.extend(source_folder().map(|source| source.join(".deps/onnxruntime").join(FILE)));
    places.extend(SYSTEM_FOLDERS.iter().map(|folder| Path::new(folder).join(FILE)));
    places
}

/// ONNX Runtime as this process opened it.
#[derive(Clone)]
pub(crate) struct Opened {
    path: PathBuf,
    pub(crate) environment: Environment,
    pub(crate) version: String,
}

/// Opens the library once in the life of the process, which cannot hold two of them: another one is refused later.
pub(crate) fn open(asked_for: Option<&Path>) -> Result<Opened, EngineError> {
    static OPENED: Mutex<Option<Opened>> = Mutex::new(None);
    let mut opened = OPENED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let library = find_library(asked_for)?;
    if let Some(opened) = &*opened {
        return if opened.path == library {
            Ok(opened.clone())
        } else {
            Err(EngineError::LibraryInUse { library, in_use: opened.path.clone() })
        };
    }
    let unusable = |cause: String| EngineError::LibraryUnusable { library: library.clone(), cause };
    // Held until `ort` has it, too: closed in between, it would be loaded and set up twice.
    let (_loaded, version) = load(&library).map_err(unusable)?;
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok()).unwrap_or(0);
    if minor < 22 {
        return Err(unusable(format!("it is version {version}")));
    }
    let environment = ort::init_from(&library)
        .map_err(|error| unusable(one_line(&error.to_string())))?
        .with_name("anemiad")
        .with_telemetry(false)
        .build()
        .and_then(share_memory)
        .map_err(|error| unusable(one_line(&error.to_string())))?;
    Ok(opened.insert(Opened { path: library, environment, version }).clone())
}

/// Lets all networks take what they need for a moment from one place: they run one after the other, and what the locator has just
/// given back is what the classifier needs next. [`crate::onnxruntime`] asks for it.
fn share_memory(environment: Environment) -> ort::Result<Environment> {
    let place = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Arena, MemoryType::Default)?;
    // SAFETY: both pointers belong to live objects, of which the library copies what it keeps; no settings (null) means its own.
    #[allow(unsafe_code)]
    let status =
        unsafe { (ort::api().CreateAndRegisterAllocator)(environment.ptr().cast_mut(), place.ptr(), std::ptr::null()) };
    // SAFETY: the status was just given by the call above and is handed over once.
    #[allow(unsafe_code)]
    unsafe { ort::Error::result_from_status(status) }?;
    Ok(environment)
}

/// The library, and the version that it says it is.
fn load(library: &Path) -> Result<(libloading::Library, String), String> {
    // SAFETY: loading runs the library's initialisers. The path was named by the administrator of this machine, or
    // is one that only the administrator can write to, as with any other shared library.
    #[allow(unsafe_code)]
    let opened = unsafe { libloading::Library::new(library) }.map_err(|error| {
        // The loader's own words are in the source of the error.
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        one_line(&cause)
    })?;
    // SAFETY: `OrtGetApiBase` has had this signature in every release of ONNX Runtime; the string that it leads to
    // is a constant of the library, and is copied while `opened` is there.
    #[allow(unsafe_code)]
    let version = unsafe {
        let base: libloading::Symbol<'_, unsafe extern "C" fn() -> *const ort_sys::OrtApiBase> =
            opened.get(c"OrtGetApiBase").map_err(|_| "it has no OrtGetApiBase".to_owned())?;
        let base = base().as_ref().ok_or("OrtGetApiBase gave nothing")?;
        CStr::from_ptr((base.GetVersionString)()).to_string_lossy().into_owned()
    };
    Ok((opened, version))
}

/// Messages of other libraries go over several lines; ours are one.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
