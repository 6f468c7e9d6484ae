//! Generates Rust types from the ONNX schema. protox is a Protobuf compiler in Rust: no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/onnx.proto");
    let descriptors = protox::compile(["onnx.proto"], ["proto"])?;
    prost_build::Config::new()
        // The comments of the schema are not Markdown; rustdoc would warn about them.
        .disable_comments(["."])
        .bytes(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
