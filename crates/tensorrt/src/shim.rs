//! The shim as this process opened it.

use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use libloading::Library;

use crate::abi::{self, Functions};
use crate::{TensorRtError, Version};

/// The file.
pub const FILE: &str = "libanemia_tensorrt.so";
/// The environment variable that names it.
pub const LIBRARY_VARIABLE: &str = "ANEMIA_TENSORRT";
/// Where it is installed.
const FOLDERS: [&str; 3] = ["/usr/lib/anemiad", "/usr/local/lib/anemiad", "/usr/local/lib"];

/// The shims that this process has opened. They stay open: unloading TensorRT and CUDA's libraries below it under a live
/// context is known to go wrong, and each opening takes its time on a board.
static OPENED: LazyLock<Mutex<HashMap<PathBuf, Shim>>> = LazyLock::new(Mutex::default);

/// TensorRT behind its C interface. Cheap to clone.
#[derive(Clone)]
pub struct Shim(Arc<Opened>);

struct Opened {
    functions: Functions,
    path: PathBuf,
    versions: Versions,
    /// Behind the functions, which are valid as long as it is open.
    _library: Library,
}

/// Which TensorRT this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Of the headers that the shim was compiled against.
    pub headers: Version,
    /// Of the library that it runs with.
    pub library: Version,
    /// Whether it is TensorRT-RTX.
    pub is_rtx: bool,
}

/// What the GPU is fast at; `None` where this version of TensorRT does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// 16-bit floats.
    pub fast_fp16: Option<bool>,
    /// 8-bit integers.
    pub fast_int8: Option<bool>,
    /// How many deep-learning accelerators there are beside the GPU.
    pub dla_cores: Option<u32>,
}

impl Shim {
    /// Opens the shim: the file that is asked for, or else the one in [`LIBRARY_VARIABLE`], or else the first that exists
    /// beside the program or in a system folder.
    pub fn open(asked_for: Option<&Path>) -> Result<Self, TensorRtError> {
        let from_variable = || std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let candidates = match asked_for.map(Path::to_owned).or_else(from_variable) {
            Some(path) => vec![path],
            None => usual_places(),
        };
        let Some(found) = candidates.iter().find(|path| path.is_file()) else {
            return Err(TensorRtError::Missing { looked_for: candidates });
        };
        // The loader would look for a relative path beside the program.
        let path = std::path::absolute(found).unwrap_or_else(|_| found.clone());
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shim) = opened.get(&path) {
            return Ok(shim.clone());
        }
        let shim = Self::open_file(path.clone())?;
        opened.insert(path, shim.clone());
        Ok(shim)
    }

    fn open_file(path: PathBuf) -> Result<Self, TensorRtError> {
        // SAFETY: loading runs the library's initialisers. The file was named by the administrator of this machine, or is one
        // that only the administrator can write to, as with any other shared library.
        #[allow(unsafe_code)]
        let library = unsafe { Library::new(&path) }.map_err(|error| {
            // The loader's own words are in the source of the error.
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            TensorRtError::NotOpened { library: path.clone(), cause: one_line(&cause) }
        })?;
        let foreign = |function| TensorRtError::Foreign { library: path.clone(), function };
        // SAFETY: every version of anemia_tensorrt.h has had `int32_t att_abi(void)`, and will.
        #[allow(unsafe_code)]
        let found = unsafe { library.get::<unsafe extern "C" fn() -> i32>("att_abi").map(|abi| abi()) };
        let found = found.map_err(|_| foreign("att_abi"))?;
        if found != abi::ABI {
            return Err(TensorRtError::OtherAbi { library: path, found, expected: abi::ABI });
        }
        let functions = Functions::of(&library).map_err(foreign)?;
        let mut raw = abi::Versions::default();
        // SAFETY: the function fills in the struct and keeps no pointer to it.
        #[allow(unsafe_code)]
        unsafe {
            (functions.att_get_versions)(&raw mut raw);
        }
        let versions = Versions {
            headers: Version::from_number(raw.headers),
            library: Version::from_number(raw.library),
            is_rtx: raw.is_rtx != 0,
        };
        let release = |version: Version| (version.major, version.minor);
        if release(versions.headers) != release(versions.library) {
            let Versions { headers, library: found, .. } = versions;
            return Err(TensorRtError::OtherVersion { library: path, headers, found });
        }
        // SAFETY: the function that it is given can be called from every thread for the life of the process.
        #[allow(unsafe_code)]
        unsafe {
            (functions.att_set_log)(log);
        }
        Ok(Self(Arc::new(Opened { functions, path, versions, _library: library })))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Which TensorRT this is.
    pub fn versions(&self) -> Versions {
        self.0.versions
    }

    /// What the GPU is fast at. TensorRT starts a builder for the answer, which takes a second.
    pub fn platform(&self) -> Result<Platform, TensorRtError> {
        let mut raw = abi::Platform::default();
        self.call(|functions, error| {
            // SAFETY: all pointers are valid for the time of the call, and none is kept.
            #[allow(unsafe_code)]
            unsafe {
                (functions.att_get_platform)(&raw mut raw, error)
            }
        })?;
        let flag = |value: i32| (value >= 0).then_some(value != 0);
        Ok(Platform {
            fast_fp16: flag(raw.fast_fp16),
            fast_int8: flag(raw.fast_int8),
            dla_cores: u32::try_from(raw.dla_cores).ok(),
        })
    }

    pub(crate) fn functions(&self) -> &Functions {
        &self.0.functions
    }

    /// Calls a function that gives a status and a text.
    pub(crate) fn call(&self, call: impl FnOnce(&Functions, *mut abi::Error) -> i32) -> Result<(), TensorRtError> {
        let mut error = abi::Error { text: [0; 1024] };
        match call(self.functions(), &raw mut error) {
            abi::OK => Ok(()),
            status => Err(error.into_error(status)),
        }
    }

    /// Takes over the bytes of a blob and gives its memory back.
    pub(crate) fn take(&self, mut blob: abi::Blob) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !blob.data.is_null() {
            let size = usize::try_from(blob.size).unwrap_or(0);
            // SAFETY: the shim gives `size` bytes at `data`, which stay until `att_free`.
            #[allow(unsafe_code)]
            bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(blob.data.cast::<u8>(), size) });
        }
        // SAFETY: the blob is one of the shim's or empty, and is given back once.
        #[allow(unsafe_code)]
        unsafe {
            (self.functions().att_free)(&raw mut blob);
        }
        bytes
    }
}

impl abi::Error {
    pub(crate) fn into_error(self, status: i32) -> TensorRtError {
        let end = self.text.iter().position(|&byte| byte == 0).unwrap_or(self.text.len());
        let bytes: Vec<u8> = self.text[..end].iter().map(|&byte| byte.to_ne_bytes()[0]).collect();
        let text = one_line(&String::from_utf8_lossy(&bytes));
        match status {
            abi::OUT_OF_MEMORY => TensorRtError::OutOfMemory(text),
            abi::BAD_PLAN => TensorRtError::BadPlan(text),
            abi::CANCELLED => TensorRtError::Cancelled,
            abi::REFUSED => TensorRtError::Refused(text),
            _ => TensorRtError::Failed(text),
        }
    }
}

fn usual_places() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join(FILE)));
    beside.into_iter().chain(FOLDERS.iter().map(|folder| Path::new(folder).join(FILE))).collect()
}

/// Called by TensorRT, from any of its threads.
#[allow(unsafe_code)]
unsafe extern "C" fn log(severity: i32, text: *const c_char) {
    // SAFETY: the shim hands over a C string that stays for the time of the call; it never calls this with a null pointer.
    let text = one_line(&unsafe { CStr::from_ptr(text) }.to_string_lossy());
    // What fails is told by the error of the call that failed; here it only helps to understand that.
    match severity {
        ..=2 => tracing::warn!("TensorRT: {text}"),
        3 => tracing::debug!("TensorRT: {text}"),
        _ => tracing::trace!("TensorRT: {text}"),
    }
}

/// Messages of other libraries go over several lines; ours are one.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
