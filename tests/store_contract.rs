//! One list of cases that every store passes: what the trait `SecretStore` promises, and not how a store keeps it.
//!
//! A store that is new gets a bed here (how to make entries, how somebody else edits them) and one test that runs the list.

#[cfg(test)]
#[path = "store_contract/aws.rs"]
mod aws;
#[cfg(test)]
#[path = "store_contract/aws_faults.rs"]
mod aws_faults;
#[cfg(test)]
#[path = "store_contract/bed.rs"]
mod bed;
#[cfg(test)]
#[path = "store_contract/cases.rs"]
mod cases;
#[cfg(test)]
#[path = "store_contract/file.rs"]
mod file;
#[cfg(test)]
#[path = "store_contract/file_crash.rs"]
mod file_crash;

/// The environment tells a test where its tools are and whether it may go without them.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the environment tells a test where its tools are")]
fn env_var(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}
