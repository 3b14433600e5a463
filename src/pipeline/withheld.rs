//! What is said of alerts that may not leave.

use crate::domain::advice::Advice;

pub(super) fn foreign(count: u64) -> Advice {
    Advice::new(
        format!(
            "{count} alert{} of device groups that are not in FunctionConfigDeviceGroups met and withheld; nothing of them left.",
            if count == 1 { "" } else { "s" }
        ),
        "The signed-in account sees more than this trust's devices. Ask the team that runs the central Defender tenant to limit the account to this trust's device group, or add the group to FunctionConfigDeviceGroups if it is this trust's.",
    )
}
