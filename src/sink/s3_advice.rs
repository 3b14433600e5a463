//! What a refusal by S3 means for the person who runs the trust's deployment.
//!
//! Codes: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList>.

use super::place::Place;
use crate::domain::advice::Advice;

/// What `status` with `code` means.
pub(super) fn refused(status: u16, code: &str) -> Advice {
    let place = Place::S3;
    let name = place.name();
    let said = if code.is_empty() { status.to_string() } else { format!("{status} {code}") };
    match (status, code) {
        (_, "NoSuchBucket") => Advice::new(
            format!("There is no bucket of the name in FunctionConfigS3Bucket ({said})."),
            place.identifiers(),
        ),
        (
            _,
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException",
        )
        | (301 | 307 | 308, _) => Advice::new(
            format!("{name} is in another region than FunctionConfigS3Region says ({said})."),
            "Open the bucket in the AWS console, Properties, and copy its AWS Region (such as eu-west-2) into FunctionConfigS3Region. Remove FunctionConfigS3Endpoint, unless the bucket is not Amazon's.",
        ),
        (_, "RequestTimeTooSkewed") => Advice::new(
            format!(
                "{name} does not believe this machine's clock, which is more than 15 minutes off ({said})."
            ),
            "On a Function App: restart it, and ask Microsoft support if it stays. On your own machine: set the clock by a time server.",
        ),
        (_, "InvalidAccessKeyId" | "InvalidToken" | "ExpiredToken") => Advice::new(
            format!("The access key is not known to the owner of the bucket ({said})."),
            "It was deleted or deactivated, or is not the one meant. Ask whoever owns the bucket for an active access key of an IAM user and copy it into FunctionConfigS3AccessKeyId and FunctionConfigS3SecretAccessKey. A temporary key (it begins with ASIA) cannot be used.",
        ),
        (_, "SignatureDoesNotMatch") => Advice::new(
            format!("The secret does not belong to the access key ({said})."),
            "Copy the secret access key again, whole and without spaces, into FunctionConfigS3SecretAccessKey. If it is lost, whoever owns the bucket must make a new access key. If it is right, ask the network team whether a proxy changes requests on their way.",
        ),
        (401 | 403, _) => {
            Advice::new(format!("{name} does not let the app in ({said})."), place.grant())
        }
        (404, _) => Advice::new(format!("{name} was not found ({said})."), place.identifiers()),
        (408 | 429, _) | (_, "SlowDown") => {
            Advice::new(format!("{name} asks for fewer requests ({said})."), place.wait())
        }
        (500..=599, _) => {
            Advice::new(format!("{name} has a fault of its own ({said})."), place.wait())
        }
        (400 | 405 | 409 | 411..=413, _) => Advice::new(
            format!("{name} does not take what it is sent ({said})."),
            format!(
                "{} Ask its owner also whether it has a rule (encryption, object lock, storage class) that refuses plain uploads. If all is right, report it to the central team.",
                place.identifiers()
            ),
        ),
        _ => Advice::new(
            format!(
                "{name} seems to answer {said}, which S3 never does here: perhaps a proxy or a gateway answers in its place."
            ),
            format!(
                "Ask the network team whether something stands between this app and the bucket, and check {}.",
                place.address_settings()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_to_correct() {
        for (status, code, setting) in [
            (404, "NoSuchBucket", "FunctionConfigS3Bucket"),
            (301, "PermanentRedirect", "FunctionConfigS3Region"),
            (400, "AuthorizationHeaderMalformed", "FunctionConfigS3Region"),
            (403, "RequestTimeTooSkewed", "clock"),
            (403, "InvalidAccessKeyId", "FunctionConfigS3AccessKeyId"),
            (403, "SignatureDoesNotMatch", "FunctionConfigS3SecretAccessKey"),
            (403, "AccessDenied", "s3:PutObject"),
            (400, "InvalidRequest", "object lock"),
            (503, "SlowDown", "Nothing to do"),
        ] {
            let advice = refused(status, code);
            assert!(advice.message.contains(&format!("{status} {code}")), "{advice:?}");
            let words = format!("{} {}", advice.message, advice.next_step);
            assert!(words.contains(setting), "{words}");
            assert!(advice.next_step.ends_with('.'), "{words}");
        }
    }
}
