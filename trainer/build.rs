//! Lets the program find libtorch where it was linked from.

fn main() {
    // Set by torch-sys, and only when the feature `torch` is on.
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        // A package has it elsewhere than the machine that made the package.
        let folder = std::env::var("ANEMIA_TRAIN_RPATH").unwrap_or(folder);
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
        // The CUDA part of libtorch registers itself when it is loaded; nothing in our code names a symbol of it.
        println!("cargo::rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo::rustc-link-arg=-ltorch");
    }
    println!("cargo::rerun-if-env-changed=ANEMIA_TRAIN_RPATH");
    println!("cargo::rerun-if-changed=build.rs");
}
