//! What `check` has to say of a secret, without changing it.

use super::client::Calls;
use super::labels::{CURRENT, Description, PROBE};
use crate::rotation::fault::{Fault, FaultClass};
use crate::store::{Finding, Severity};

/// Labels that a secret may have; AWS's quota.
const LABELS_MAX: usize = 20;
/// Labels of ours during a rotation: staged, retiring, two records, the proof, and a surplus pair.
const LABELS_WANTED: usize = 7;

pub(super) async fn examine(calls: &Calls, entry: &str) -> Result<Vec<Finding>, Fault> {
    let described = match calls.describe(entry).await.map_err(Fault::from) {
        Ok(Some(described)) => described,
        Ok(None) => {
            let remedy = "create the secret, or run `evertoken adopt --create`; look at the region and the name too";
            return Ok(vec![error(format!("there is no secret {entry:?} in this account and region"), remedy)]);
        }
        // With an id it is AWS that refused; without, the call never left this host, for want of credentials.
        Err(fault) if fault.class == FaultClass::Denied && fault.trace_id.is_some() => {
            return Ok(vec![error(fault.what, "allow secretsmanager:DescribeSecret on the secret (docs/aws.md has the policy)")]);
        }
        Err(fault) => return Err(fault),
    };
    let mut findings = vec![fine(format!("the secret is {}", described.arn))];
    if described.deleting {
        findings.push(error("it is scheduled for deletion".to_owned(), "aws secretsmanager restore-secret"));
        return Ok(findings);
    }
    findings.push(value(calls, entry).await?);
    settings(&described, &mut findings);
    labels(&described, &mut findings);
    Ok(findings)
}

async fn value(calls: &Calls, entry: &str) -> Result<Finding, Fault> {
    match calls.get_stage(entry, CURRENT).await.map_err(Fault::from) {
        Ok(Some(current)) => Ok(fine(format!("its current version {} can be read", current.id))),
        Ok(None) => Ok(warning("it has no current version".to_owned(), "put the first token with `evertoken adopt`")),
        Err(fault) if fault.class == FaultClass::Denied => {
            Ok(error(fault.what, "allow secretsmanager:GetSecretValue, and kms:Decrypt where the secret has a key of its own"))
        }
        Err(fault) if fault.class == FaultClass::BadRequest => Ok(error(fault.what, "store the token as text (SecretString)")),
        Err(fault) => Err(fault),
    }
}

fn settings(described: &Description, findings: &mut Vec<Finding>) {
    match described.foreign_rotation() {
        Some(what) => findings.push(error(
            what,
            "turn native rotation off (aws secretsmanager cancel-rotate-secret): two rotators revoke each other's tokens",
        )),
        None => findings.push(fine("nothing else rotates it".to_owned())),
    }
    match &described.kms_key {
        Some(key) => findings.push(fine(format!("it is encrypted under {key}; evertoken needs kms:GenerateDataKey and kms:Decrypt there"))),
        None => findings.push(fine("it is encrypted under the account's aws/secretsmanager key".to_owned())),
    }
    for (region, status) in &described.replicas {
        let remedy = "replicas lag by seconds: name each as a sink if its readers must be waited for";
        findings.push(warning(format!("it is replicated to {region} ({status})"), remedy));
    }
}

fn labels(described: &Description, findings: &mut Vec<Finding>) {
    let (all, ours) = described.label_counts();
    let foreign = all.saturating_sub(ours);
    if foreign + LABELS_WANTED > LABELS_MAX {
        let remedy = "remove labels that nobody uses (aws secretsmanager update-secret-version-stage --remove-from-version-id)";
        findings.push(warning(format!("{foreign} labels of others leave too little of AWS's {LABELS_MAX} for a rotation"), remedy));
    }
    if described.holder(PROBE).is_some() {
        findings.push(warning("the label of a proof was left behind".to_owned(), "the next proof takes it along; it does no harm"));
    }
    if described.records().len() > 2 {
        let what = format!("{} labels of records are there, of which the highest counts", described.records().len());
        findings.push(warning(what, "the next record lets go of the older ones"));
    }
}

fn fine(what: String) -> Finding {
    Finding { severity: Severity::Fine, what, remedy: String::new() }
}

fn warning(what: String, remedy: &str) -> Finding {
    Finding { severity: Severity::Warning, what, remedy: remedy.to_owned() }
}

fn error(what: String, remedy: &str) -> Finding {
    Finding { severity: Severity::Error, what, remedy: remedy.to_owned() }
}
