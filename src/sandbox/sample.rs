//! Made-up alerts of the documented shape.
//!
//! Every member documented for an alert and all 25 of an evidence entry, unused
//! ones null, in the documented order.
//! <https://learn.microsoft.com/defender-endpoint/api/alerts>

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use crate::domain::timestamp::Timestamp;

/// What tests and the demo say of an alert; the rest follows from its number.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Which alert; alerts of one number are versions of each other.
    pub number: u64,
    /// `rbacGroupName`; `None` is null.
    pub group: Option<String>,
    /// `alertCreationTime`.
    pub created: Timestamp,
    /// `lastUpdateTime`.
    pub updated: Timestamp,
    /// `severity`.
    pub severity: &'static str,
    /// `status`.
    pub status: &'static str,
    /// Entries of `evidence`, some 800 bytes each.
    pub evidence: usize,
    /// Device groups of the further devices it is about. Only Graph shows them.
    pub further_groups: Vec<Option<String>>,
    /// `serviceSource`: the product that made it. Defender lists its own only.
    pub service: &'static str,
}

/// The product whose alerts Defender for Endpoint lists, in Graph's words.
pub const ENDPOINT: &str = "microsoftDefenderForEndpoint";

/// Alert `number` of `group`, of about 4 KB with its evidence.
pub fn alert(number: u64, group: &str, updated: Timestamp) -> Sample {
    Sample {
        number,
        group: Some(group.to_owned()),
        created: updated - Duration::from_millis(1_500),
        updated,
        severity: "Medium",
        status: "New",
        evidence: 4,
        further_groups: Vec::new(),
        service: ENDPOINT,
    }
}

impl Sample {
    /// `da638993..._n`, as Defender makes them.
    pub fn id(&self) -> String {
        format!("da{}_{}", 638_993_001_124_417_325 + self.number * 10_000_000, self.number)
    }

    /// The alert as JSON.
    pub fn json(&self) -> Bytes {
        self.render().0
    }

    /// The alert as JSON, and how much of it comes before its evidence.
    pub(super) fn render(&self) -> (Bytes, usize) {
        // Numbers, texts and no map keys: nothing that JSON cannot hold.
        let json = serde_json::to_vec(&Wire::of(self)).unwrap_or_default();
        let evidence = json.len() - self.evidence_bytes();
        (Bytes::from(json), evidence)
    }

    fn evidence_bytes(&self) -> usize {
        let entries = Entries { count: self.evidence, at: self.created };
        serde_json::to_vec(&entries).map_or(0, |json| json.len() + 1)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    id: String,
    incident_id: u64,
    investigation_id: Option<u64>,
    assigned_to: Option<&'a str>,
    severity: &'a str,
    status: &'a str,
    classification: Option<&'a str>,
    determination: Option<&'a str>,
    investigation_state: &'a str,
    detection_source: &'a str,
    detector_id: &'a str,
    category: &'a str,
    threat_family_name: Option<&'a str>,
    title: String,
    description: &'a str,
    alert_creation_time: Timestamp,
    first_event_time: Timestamp,
    last_event_time: Timestamp,
    last_update_time: Timestamp,
    resolved_time: Option<Timestamp>,
    machine_id: String,
    computer_dns_name: String,
    rbac_group_name: Option<&'a str>,
    aad_tenant_id: &'a str,
    threat_name: Option<&'a str>,
    mitre_techniques: [&'a str; 2],
    related_user: BTreeMap<&'a str, &'a str>,
    logged_on_users: [BTreeMap<&'a str, &'a str>; 1],
    comments: [&'a str; 0],
    evidence: Entries,
}

impl<'a> Wire<'a> {
    fn of(sample: &'a Sample) -> Self {
        let resolved = sample.status == "Resolved";
        Self {
            id: sample.id(),
            incident_id: 41_000 + sample.number / 3,
            investigation_id: None,
            assigned_to: (sample.status != "New").then_some("analyst@identity.example.nhs.uk"),
            severity: sample.severity,
            status: sample.status,
            classification: resolved.then_some("TruePositive"),
            determination: resolved.then_some("Malware"),
            investigation_state: "UnsupportedAlertType",
            detection_source: "WindowsDefenderAtp",
            detector_id: "7f1c3609-a3ff-40e2-995b-c01770161d68",
            category: "CommandAndControl",
            threat_family_name: None,
            title: format!("Suspicious \"download\" no. {}", sample.number),
            description: "A process reached a rarely seen domain\nand wrote a file.",
            alert_creation_time: sample.created,
            first_event_time: sample.created - Duration::from_secs(100),
            last_event_time: sample.created - Duration::from_secs(80),
            last_update_time: sample.updated,
            resolved_time: resolved.then_some(sample.updated),
            machine_id: format!("{:040x}", sample.number % 97),
            computer_dns_name: format!("ward{}-pc.example.nhs.uk", sample.number % 97),
            rbac_group_name: sample.group.as_deref(),
            aad_tenant_id: "0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11",
            threat_name: None,
            mitre_techniques: ["T1059.001", "T1105"],
            related_user: BTreeMap::from([("userName", USER), ("domainName", DOMAIN)]),
            logged_on_users: [BTreeMap::from([("accountName", USER), ("domainName", DOMAIN)])],
            comments: [],
            evidence: Entries { count: sample.evidence, at: sample.created },
        }
    }
}

const USER: &str = "a.example";
const DOMAIN: &str = "EXAMPLEDOM";

/// `evidence`: a user, a process, a file and an address, over and over.
struct Entries {
    count: usize,
    at: Timestamp,
}

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.count))?;
        for number in 0..self.count {
            list.serialize_element(&Entry::of(number, self.at + Duration::from_millis(800)))?;
        }
        list.end()
    }
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    entity_type: &'static str,
    evidence_creation_time: Timestamp,
    sha1: Option<&'static str>,
    sha256: Option<&'static str>,
    file_name: Option<&'static str>,
    file_path: Option<&'static str>,
    process_id: Option<u32>,
    process_command_line: Option<&'static str>,
    process_creation_time: Option<Timestamp>,
    parent_process_id: Option<u32>,
    parent_process_creation_time: Option<Timestamp>,
    parent_process_file_name: Option<&'static str>,
    parent_process_file_path: Option<&'static str>,
    ip_address: Option<&'static str>,
    url: Option<&'static str>,
    registry_key: Option<&'static str>,
    registry_hive: Option<&'static str>,
    registry_value_type: Option<&'static str>,
    registry_value: Option<&'static str>,
    account_name: Option<&'static str>,
    domain_name: Option<&'static str>,
    user_sid: Option<&'static str>,
    aad_user_id: Option<&'static str>,
    user_principal_name: Option<&'static str>,
    detection_status: Option<&'static str>,
}

impl Entry {
    fn of(number: usize, at: Timestamp) -> Self {
        let blank = Self { evidence_creation_time: at, ..Self::default() };
        match number % 4 {
            0 => Self {
                entity_type: "User",
                account_name: Some(USER),
                domain_name: Some(DOMAIN),
                user_sid: Some("S-1-5-21-2088812341-1177238915-682003330-40117"),
                aad_user_id: Some("3d0d7c22-8a61-4c19-8a0e-6b4f3c7c51aa"),
                user_principal_name: Some("a.example@example.nhs.uk"),
                ..blank
            },
            1 => Self {
                entity_type: "Process",
                sha1: Some("6cbce4a295c163791b60fc23d285e6d84f28ee4c"),
                sha256: Some("de96a6e69944335375dc1ac238336066889d9ffc7d73628ef4fe1b1b160ab32c"),
                file_name: Some("powershell.exe"),
                file_path: Some("C:\\Windows\\System32\\WindowsPowerShell\\v1.0"),
                process_id: Some(9_132),
                process_command_line: Some("powershell.exe -NoProfile -File \"C:\\upd.ps1\""),
                process_creation_time: Some(at),
                parent_process_id: Some(5_540),
                parent_process_creation_time: Some(at),
                parent_process_file_name: Some("EXCEL.EXE"),
                parent_process_file_path: Some("C:\\Program Files\\Microsoft Office"),
                detection_status: Some("Detected"),
                ..blank
            },
            2 => Self {
                entity_type: "File",
                sha1: Some("0a4d55a8d778e5022fab701977c5d840bbc486d0"),
                sha256: Some("b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"),
                file_name: Some("stage2.dll"),
                file_path: Some("C:\\Users\\Public"),
                detection_status: Some("Detected"),
                ..blank
            },
            _ => Self { entity_type: "Ip", ip_address: Some("203.0.113.54"), ..blank },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_alert_has_every_documented_member_and_about_4_kb() {
        let (json, evidence) = alert(7, "RXX", "2026-11-19T08:00:00Z".parse().unwrap()).render();
        let parsed: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(parsed.as_object().unwrap().len(), 30);
        assert_eq!(parsed["evidence"][3].as_object().unwrap().len(), 25);
        assert!((3_500..4_500).contains(&json.len()), "{}", json.len());
        assert_eq!(&json[evidence..evidence + 2], b"[{");
    }
}
