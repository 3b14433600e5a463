//! Made-up alerts of the form Graph documents: the same as
//! [`sample`](super::sample) makes for Defender.
//! <https://learn.microsoft.com/graph/api/resources/security-alert>

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::sample::Sample;

/// The alert as Graph sends it. Without `young_words` those enum words that
/// are younger than the API are `unknownFutureValue`.
pub(super) fn json(sample: &Sample, young_words: bool) -> Bytes {
    let defenders: Map<String, Value> = serde_json::from_slice(&sample.json()).unwrap_or_default();
    let member = |name: &str| defenders.get(name).cloned().unwrap_or_default();
    let word = |name: &str| small(&member(name));
    let unknown = |value: Value| if value.is_null() { json!("unknown") } else { value };
    let id = sample.id();
    let incident = member("incidentId").to_string();
    let entries = member("evidence");
    let entries = entries.as_array().map(Vec::as_slice).unwrap_or_default();
    let main = device(sample, &member("loggedOnUsers"), sample.group.as_deref(), young_words);
    let further = sample.further_groups.iter();
    let further = further.map(|group| device(sample, &json!([]), group.as_deref(), young_words));
    let is_device = sample.group.is_some() || !sample.further_groups.is_empty();
    let evidence: Vec<Value> = [main]
        .into_iter()
        .filter(|_| is_device)
        .chain(entries.iter().map(|entry| evidence(entry, sample)))
        .chain(further)
        .collect();
    let alert = json!({
        "@odata.type": "#microsoft.graph.security.alert",
        "id": id,
        "providerAlertId": id,
        "incidentId": incident,
        "status": word("status"),
        "severity": word("severity"),
        "classification": unknown(word("classification")),
        "determination": unknown(word("determination")),
        "serviceSource": sample.service,
        "detectionSource": "microsoftDefenderForEndpoint",
        "productName": "Microsoft Defender for Endpoint",
        "investigationState": word("investigationState"),
        "detectorId": member("detectorId"),
        "tenantId": member("aadTenantId"),
        "title": member("title"),
        "description": member("description"),
        "recommendedActions": "Look at the device's timeline.",
        "category": member("category"),
        "assignedTo": member("assignedTo"),
        "alertWebUrl": format!("https://security.microsoft.com/alerts/{id}"),
        "incidentWebUrl": format!("https://security.microsoft.com/incidents/{incident}"),
        "actorDisplayName": null,
        "threatDisplayName": member("threatName"),
        "threatFamilyName": member("threatFamilyName"),
        "mitreTechniques": member("mitreTechniques"),
        "createdDateTime": member("alertCreationTime"),
        "lastUpdateDateTime": member("lastUpdateTime"),
        "resolvedDateTime": member("resolvedTime"),
        "firstActivityDateTime": member("firstEventTime"),
        "lastActivityDateTime": member("lastEventTime"),
        "comments": [],
        "evidence": evidence,
        "systemTags": [],
        "additionalData": null,
    });
    Bytes::from(alert.to_string())
}

/// `InProgress` as `inProgress`.
fn small(word: &Value) -> Value {
    let Some(word) = word.as_str() else { return word.clone() };
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    json!(first.into_iter().chain(letters).collect::<String>())
}

fn device(sample: &Sample, users: &Value, group: Option<&str>, young_words: bool) -> Value {
    let status = if young_words { "active" } else { "unknownFutureValue" };
    let id = format!("{:040x}", sample.number % 97);
    json!({
        "@odata.type": "#microsoft.graph.security.deviceEvidence",
        "createdDateTime": sample.created,
        "verdict": "suspicious",
        "remediationStatus": status,
        "remediationStatusDetails": null,
        "roles": ["compromised"],
        "detailedRoles": ["Main device"],
        "tags": [],
        "firstSeenDateTime": "2024-09-12T07:28:32.4321753Z",
        "mdeDeviceId": id,
        "azureAdDeviceId": null,
        "deviceDnsName": format!("ward{}-pc.example.nhs.uk", sample.number % 97),
        "osPlatform": "Windows11",
        "osBuild": 22_631,
        "version": "23H2",
        "healthStatus": "active",
        "riskScore": "medium",
        "rbacGroupId": 75,
        "rbacGroupName": group,
        "onboardingStatus": "onboarded",
        "defenderAvStatus": "updated",
        "lastIpAddress": "192.0.2.7",
        "ipInterfaces": ["192.0.2.7"],
        "loggedOnUsers": users,
        "vmMetadata": null,
    })
}

/// Defender's flat entry in Graph's nested form.
fn evidence(entry: &Value, sample: &Sample) -> Value {
    let member = |name: &str| entry.get(name).cloned().unwrap_or_default();
    let file = |name: &str, path: &str| {
        json!({
            "sha1": member("sha1"), "sha256": member("sha256"), "fileName": member(name),
            "filePath": member(path), "fileSize": 6_136_392, "filePublisher": null,
        })
    };
    let account = json!({
        "accountName": member("accountName"), "domainName": member("domainName"),
        "userSid": member("userSid"), "azureAdUserId": member("aadUserId"),
        "userPrincipalName": member("userPrincipalName"), "displayName": null,
    });
    let kind = member("entityType");
    let kind = kind.as_str().unwrap_or_default();
    let own = match kind {
        "User" => json!({"userAccount": account}),
        "Process" => json!({
            "processId": member("processId"),
            "parentProcessId": member("parentProcessId"),
            "processCommandLine": member("processCommandLine"),
            "processCreationDateTime": member("processCreationTime"),
            "parentProcessCreationDateTime": member("parentProcessCreationTime"),
            "detectionStatus": small(&member("detectionStatus")),
            "mdeDeviceId": format!("{:040x}", sample.number % 97),
            "imageFile": file("fileName", "filePath"),
            "parentProcessImageFile": {
                "sha1": null, "fileName": member("parentProcessFileName"),
                "filePath": member("parentProcessFilePath"), "fileSize": 731_744,
            },
            "userAccount": account,
        }),
        "File" => json!({
            "detectionStatus": small(&member("detectionStatus")),
            "fileDetails": file("fileName", "filePath"),
        }),
        _ => json!({"ipAddress": member("ipAddress"), "countryLetterCode": null}),
    };
    let mut whole = json!({
        "@odata.type": format!("#microsoft.graph.security.{}Evidence", kind.to_ascii_lowercase()),
        "createdDateTime": member("evidenceCreationTime"),
        "verdict": "suspicious", "remediationStatus": "none", "remediationStatusDetails": null,
        "roles": [], "detailedRoles": [], "tags": [],
    });
    if let (Value::Object(whole), Value::Object(own)) = (&mut whole, own) {
        whole.extend(own);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn alert(change: impl FnOnce(&mut Sample), young_words: bool) -> Value {
        let mut sample = sample::alert(7, "RXX", "2026-11-19T08:00:00Z".parse().unwrap());
        change(&mut sample);
        serde_json::from_slice(&json(&sample, young_words)).unwrap()
    }

    #[test]
    fn an_alert_is_defenders_in_graphs_words() {
        let alert = alert(|sample| sample.status = "InProgress", true);
        assert_eq!(alert["status"], "inProgress");
        assert_eq!(alert["classification"], "unknown");
        assert_eq!(alert["incidentId"], "41002");
        assert_eq!(alert["lastUpdateDateTime"], "2026-11-19T08:00:00Z");
        let evidence = alert["evidence"].as_array().unwrap();
        assert_eq!(evidence.len(), 5);
        assert_eq!(evidence[0]["rbacGroupName"], "RXX");
        assert_eq!(evidence[0]["remediationStatus"], "active");
        assert_eq!(evidence[2]["imageFile"]["fileName"], "powershell.exe");
    }

    #[test]
    fn young_words_are_hidden_from_who_does_not_prefer_them() {
        let status = |young| alert(|_| {}, young)["evidence"][0]["remediationStatus"].clone();
        assert_eq!((status(true), status(false)), (json!("active"), json!("unknownFutureValue")));
    }

    #[test]
    fn an_alert_names_as_many_devices_as_it_has_groups() {
        let devices = |change: fn(&mut Sample)| {
            let alert = alert(change, true);
            let evidence = alert["evidence"].as_array().unwrap().clone();
            let groups = evidence.into_iter().filter(|entry| entry.get("mdeDeviceId").is_some());
            groups.filter_map(|entry| entry.get("rbacGroupName").cloned()).collect::<Vec<_>>()
        };
        assert_eq!(devices(|sample| sample.group = None), [json!(null); 0]);
        assert_eq!(
            devices(|sample| sample.further_groups = vec![None, Some("RYY".to_owned())]),
            [json!("RXX"), json!(null), json!("RYY")]
        );
    }
}
