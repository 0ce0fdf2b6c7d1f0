//! The Signature Version 4 header, as far as it can be judged without the secret key: present, well-formed, of this region, service
//! and day, from a known access key. The signature itself is not verified, as the simulator knows nobody's secret key.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::super::service::Request;
use super::knobs::Knobs;
use super::refusal::{ErrorType, Refusal};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "secretsmanager";

pub(super) fn check(request: &Request, region: &str, knobs: &Knobs, now: Timestamp) -> Result<(), Refusal> {
    let Some(header) = request.header("authorization") else {
        return Err(Refusal::new(ErrorType::MissingAuthenticationTokenException, "Missing Authentication Token"));
    };
    let (algorithm, parts) = header.split_once(' ').ok_or_else(|| incomplete("Authorization header is not of the form of SigV4."))?;
    if algorithm != ALGORITHM {
        return Err(incomplete("Unsupported algorithm in Authorization header."));
    }
    let part = |name: &str| {
        let found = parts.split(',').filter_map(|part| part.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value);
        found.filter(|value| !value.is_empty()).ok_or_else(|| incomplete(&format!("Authorization header requires '{name}' parameter.")))
    };
    let (credential, signed, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    if signature.len() != 64 || !signature.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(incomplete("Signature is not 64 lower-case hexadecimal digits."));
    }
    for needed in ["host", "x-amz-date"] {
        if !signed.split(';').any(|header| header == needed) {
            return Err(invalid(&format!("'{needed}' must be a 'SignedHeader' in the AWS Authorization.")));
        }
    }
    let time = request.header("x-amz-date").ok_or_else(|| incomplete("Authorization header requires existence of 'X-Amz-Date' header."))?;
    scope(credential, time, region, knobs)?;
    skew(time, knobs, now)
}

fn scope(credential: &str, time: &str, region: &str, knobs: &Knobs) -> Result<(), Refusal> {
    let mut parts = credential.rsplitn(5, '/');
    let mut next = || parts.next().filter(|part| !part.is_empty()).ok_or_else(|| incomplete("Credential must have five parts."));
    let (terminator, service, signed_region, date, key) = (next()?, next()?, next()?, next()?, next()?);
    if terminator != "aws4_request" {
        return Err(invalid("Credential should be scoped with a valid terminator: 'aws4_request'."));
    }
    if service != SERVICE {
        return Err(invalid(&format!("Credential should be scoped to correct service: '{SERVICE}'.")));
    }
    if signed_region != region {
        return Err(invalid(&format!(
            "Credential should be scoped to a valid region, not '{signed_region}'. This simulator is in '{region}'."
        )));
    }
    if !time.starts_with(date) || date.len() != 8 {
        return Err(invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP."));
    }
    if knobs.unknown_access_keys.contains(key) {
        return Err(Refusal::new(ErrorType::UnrecognizedClientException, "The security token included in the request is invalid."));
    }
    Ok(())
}

fn skew(time: &str, knobs: &Knobs, now: Timestamp) -> Result<(), Refusal> {
    let signed = DateTime::strptime("%Y%m%dT%H%M%SZ", time).and_then(|time| TimeZone::UTC.to_timestamp(time));
    let signed = signed.map_err(|_why| incomplete("Date must be in ISO-8601 'basic format'."))?;
    match knobs.max_skew_s {
        Some(max) if signed.duration_since(now).unsigned_abs().as_secs() > max => {
            Err(invalid("Signature expired or not yet current: X-Amz-Date is too far from the service's clock."))
        }
        Some(_) | None => Ok(()),
    }
}

fn incomplete(message: &str) -> Refusal {
    Refusal::new(ErrorType::IncompleteSignatureException, message)
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(ErrorType::InvalidSignatureException, message)
}
