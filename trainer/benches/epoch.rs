//! The time of one epoch here, as one line: `make bench-train` puts it beside PyTorch's.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pictures = 160;
    let time = anemia_trainer::speed::epoch(pictures, 2)?;
    println!("anemia-train  {pictures} pictures, 224 px, 2 threads, fp32: {:.2} s", time.as_secs_f64());
    Ok(())
}
