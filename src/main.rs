//! evertoken.
fn main() {}
