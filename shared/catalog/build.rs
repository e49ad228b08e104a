//! A changed migration must be embedded again; cargo looks only inside the crate by itself.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
