use serde_json::{Value, json};

use super::*;

fn turned(sent: &Value) -> Value {
    let text = in_defenders_form(sent.to_string().as_bytes()).expect("an object");
    serde_json::from_str(&text).expect("JSON")
}

fn device(id: &str, group: &Value) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.security.deviceEvidence", "mdeDeviceId": id,
        "deviceDnsName": format!("{id}.example.nhs.uk"), "rbacGroupName": group,
        "loggedOnUsers": [{"accountName": "b.example", "domainName": "EXAMPLEDOM"}],
    })
}

#[test]
fn an_alert_gets_defenders_names_words_and_main_device_and_keeps_the_rest() {
    let sent = json!({
        "@odata.type": "#microsoft.graph.security.alert",
        "id": "da1", "providerAlertId": "da1", "incidentId": "41877", "status": "inProgress",
        "severity": "unknown", "classification": "informationalExpectedActivity",
        "determination": "notMalicious", "investigationState": "unsupportedAlertType",
        "detectionSource": "antivirus", "tenantId": "t", "threatDisplayName": "Trojan",
        "createdDateTime": "2026-11-19T08:41:51.6241137Z", "resolvedDateTime": null,
        "firstActivityDateTime": "a", "lastActivityDateTime": "b",
        "lastUpdateDateTime": "2026-11-19T08:41:53.17Z", "serviceSource": "microsoftDefenderForEndpoint",
        "comments": [{"comment": "c", "createdByDisplayName": "d", "createdDateTime": "e", "x": 1}],
        "evidence": [
            {"@odata.type": "#microsoft.graph.security.userEvidence",
             "userAccount": {"accountName": "a.example", "domainName": "EXAMPLEDOM"}},
            device("m1", &json!("RXX")),
            device("m2", &json!("RXX")),
        ],
    });
    let mut turned = turned(&sent);
    let evidence = turned["evidence"].take();
    assert_eq!(
        turned,
        json!({
            "@odata.type": "#microsoft.graph.security.alert",
            "id": "da1", "incidentId": 41877, "status": "InProgress", "severity": "UnSpecified",
            "classification": "InformationalExpectedActivity", "determination": "Clean",
            "investigationState": "UnsupportedAlertType", "detectionSource": "WindowsDefenderAv",
            "aadTenantId": "t", "threatName": "Trojan",
            "alertCreationTime": "2026-11-19T08:41:51.6241137Z", "resolvedTime": null,
            "firstEventTime": "a", "lastEventTime": "b",
            "lastUpdateTime": "2026-11-19T08:41:53.17Z", "serviceSource": "microsoftDefenderForEndpoint",
            "machineId": "m1", "computerDnsName": "m1.example.nhs.uk", "rbacGroupName": "RXX",
            "loggedOnUsers": [{"accountName": "b.example", "domainName": "EXAMPLEDOM"}],
            "relatedUser": {"userName": "a.example", "domainName": "EXAMPLEDOM"},
            "rbacGroupNames": ["RXX", "RXX"],
            "comments": [{"comment": "c", "createdBy": "d", "createdTime": "e", "x": 1}],
            "evidence": null,
        })
    );
    assert_eq!(evidence[1]["entityType"], "Device");
    assert_eq!(evidence[1]["rbacGroupName"], "RXX");
}

fn typed(kind: &str, mut rest: Value) -> Value {
    rest["@odata.type"] = json!(format!("#microsoft.graph.security.{kind}"));
    rest
}

fn flat(kind: &str, sent: Value) -> Value {
    turned(&json!({"evidence": [typed(kind, sent)]}))["evidence"][0].take()
}

#[test]
fn a_process_becomes_flat_as_defenders_and_loses_nothing() {
    let sent = json!({
        "createdDateTime": "c", "verdict": "suspicious", "processId": 4780,
        "processCreationDateTime": "p", "parentProcessCreationDateTime": "q",
        "detectionStatus": "detected",
        "imageFile": {"sha1": "s1", "fileName": "a.exe", "fileSize": 7},
        "parentProcessImageFile": {"sha1": "s2", "fileName": "b.exe", "filePath": "d"},
        "userAccount": {"accountName": "SYSTEM", "azureAdUserId": null, "displayName": "System"},
    });
    let expected = json!({
        "entityType": "Process", "evidenceCreationTime": "c", "verdict": "suspicious",
        "processId": 4780, "processCreationTime": "p", "parentProcessCreationTime": "q",
        "detectionStatus": "Detected", "sha1": "s1", "fileName": "a.exe",
        "imageFile": {"fileSize": 7}, "parentProcessFileName": "b.exe",
        "parentProcessFilePath": "d", "parentProcessImageFile": {"sha1": "s2"},
        "accountName": "SYSTEM", "aadUserId": null, "userAccount": {"displayName": "System"},
    });
    assert_eq!(flat("processEvidence", sent), typed("processEvidence", expected));
}

#[test]
fn of_two_values_for_one_place_both_are_kept() {
    let file = json!({"sha1": "s1", "fileName": "a.exe"});
    let cases = [
        (
            json!({"fileDetails": file, "sha1": "own"}),
            json!({"sha1": "own", "fileName": "a.exe", "fileDetails": {"sha1": "s1"}}),
        ),
        (
            json!({"fileDetails": file, "imageFile": {"sha1": "s3"}}),
            json!({"sha1": "s1", "fileName": "a.exe", "imageFile": {"sha1": "s3"}}),
        ),
    ];
    for (sent, mut expected) in cases {
        expected["entityType"] = json!("File");
        assert_eq!(flat("fileEvidence", sent), typed("fileEvidence", expected));
    }
}

#[test]
fn evidence_of_other_kinds_is_named_and_kept() {
    let registry = json!({"registryValueName": "n", "registryValue": "v"});
    let mut expected = typed("registryValueEvidence", registry.clone());
    expected["entityType"] = json!("Registry");
    assert_eq!(flat("registryValueEvidence", registry), expected);
    let new = json!({"userAccount": null, "x": {"deep": [1.50]}});
    let mut expected = typed("newEvidence", new.clone());
    expected["entityType"] = json!("New");
    assert_eq!(flat("newEvidence", new), expected);
}

#[test]
fn the_providers_id_is_the_alerts_and_graphs_own_is_kept_where_it_differs() {
    let ids = |sent: Value| {
        let turned = turned(&sent);
        ["id", "graphId", "providerAlertId"].map(|name| turned.get(name).cloned())
    };
    let text = |text: &str| Some(json!(text));
    assert_eq!(ids(json!({"id": "da1", "providerAlertId": "da1"})), [text("da1"), None, None]);
    assert_eq!(ids(json!({"id": "g", "providerAlertId": "da1"})), [text("da1"), text("g"), None]);
    assert_eq!(ids(json!({"providerAlertId": "da1"})), [text("da1"), None, None]);
    assert_eq!(ids(json!({"id": "da1"})), [text("da1"), None, None]);
    for unusable in [json!(null), json!(""), json!(7)] {
        let sent = json!({"id": "da1", "providerAlertId": unusable});
        assert_eq!(ids(sent), [text("da1"), None, Some(unusable)]);
    }
}

#[test]
fn groups_are_listed_where_one_does_not_say_all() {
    let listed =
        |evidence: Value| turned(&json!({"evidence": evidence})).get(DEVICE_GROUPS).cloned();
    let [ours, theirs, none] = [json!("RXX"), json!("RYY"), json!(null)];
    assert_eq!(listed(json!([])), None);
    assert_eq!(listed(json!([device("m", &ours)])), None);
    assert_eq!(listed(json!([device("m", &none)])), None);
    let two = [device("m", &ours), device("n", &theirs)];
    assert_eq!(listed(json!(two)), Some(json!(["RXX", "RYY"])));
    assert_eq!(listed(json!([device("m", &none), device("n", &ours)])), Some(json!([null, "RXX"])));
    // Not the main device's: it has none.
    assert_eq!(listed(json!([{"rbacGroupName": "RYY"}])), Some(json!(["RYY"])));
    assert_eq!(listed(json!([7])), Some(json!([false])));
}

#[test]
fn bytes_of_values_are_not_touched() {
    let sent = r#"{"id":"a","x":1.50e+2,"incidentId":"007","y":"\u00e9","severity":"a b","n\u0065w":[ 1 ],"evidence":[{"z":1E400}]}"#;
    assert_eq!(
        in_defenders_form(sent.as_bytes()).unwrap(),
        r#"{"id":"a","x":1.50e+2,"incidentId":"007","y":"\u00e9","severity":"a b","n\u0065w":[ 1 ],"evidence":[{"z":1E400}]}"#
    );
    assert_eq!(in_defenders_form(b"{}").unwrap(), "{}");
    for garbage in [&b"[]"[..], b"7", b"\"a\"", b"{", b"\xff", b""] {
        assert_eq!(in_defenders_form(garbage), None);
    }
}
