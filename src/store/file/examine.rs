//! What `check` has to say of an entry, without changing it.

use nix::unistd::{AccessFlags, access};

use super::Place;
use super::view::View;
use crate::rotation::fault::{Fault, FaultClass};
use crate::store::{Finding, Severity};

pub(super) fn examine(place: &Place) -> Result<Vec<Finding>, Fault> {
    let path = place.parts.iter().fold(place.root.to_path_buf(), |path, part| path.join(part));
    let view = match View::open(place) {
        Ok(Some(view)) => view,
        Ok(None) => {
            let remedy = "it is made when the first token is published there";
            return Ok(vec![finding(Severity::Warning, format!("the folder {} is missing", path.display()), remedy)]);
        }
        Err(fault) if fault.class == FaultClass::Denied => {
            return Ok(vec![finding(Severity::Error, fault.what, "evertoken publishes only where nobody else can choose what is read")]);
        }
        Err(fault) => return Err(fault),
    };
    let mut findings = vec![token(place, &view)?];
    if access(&path, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        let remedy = "give the folder to the daemon's user, or add it to ReadWritePaths= of the unit";
        findings.push(finding(Severity::Error, format!("{} cannot be written by this user", path.display()), remedy));
    }
    if place.access.mode & 0o004 != 0 {
        let what = format!("mode {:04o} lets every user of the host read the token", place.access.mode);
        findings.push(finding(Severity::Warning, what, "set mode = \"0640\" and a group of the consumers"));
    }
    Ok(findings)
}

fn token(place: &Place, view: &View) -> Result<Finding, Fault> {
    let path = view.folder.path().join("token");
    let path = path.display();
    let (Some(_held), Some((mode, group))) = (view.current()?, view.published_access()?) else {
        return Ok(finding(Severity::Warning, format!("{path} is missing or empty"), "put the first token with `evertoken adopt`"));
    };
    if place.access.is(mode, group) {
        return Ok(finding(Severity::Fine, format!("{path} is there and can be read"), ""));
    }
    let what = format!("{path} has mode {mode:04o} and group {group}, not what the store gives (mode {:04o})", place.access.mode);
    Ok(finding(Severity::Warning, what, "the daemon's next look at it sets both"))
}

fn finding(severity: Severity, what: String, remedy: &str) -> Finding {
    Finding { severity, what, remedy: remedy.to_owned() }
}
