//! What is said of alerts that may not leave.

use crate::domain::advice::{Advice, counted};
use crate::domain::visible;

/// `count` alerts were withheld; `only`: as every other under this list of
/// groups, so that it may name none that exists.
pub(super) fn foreign(count: u64, only: bool) -> Advice {
    if only {
        let all = if count == 1 {
            "the only alert met is".to_owned()
        } else {
            format!("all {count} alerts met are")
        };
        return visible::nothing_ours(&all);
    }
    let (were, them) = if count == 1 { ("was", "it") } else { ("were", "them") };
    Advice::new(
        format!(
            "{} of device groups that FunctionConfigDeviceGroups does not name, or of no group, {were} met and withheld: nothing of {them} was exported.",
            counted(count, "alert")
        ),
        visible::limit_the_account(),
    )
}

/// Said beside what happened, when nothing of ours was ever met.
pub(super) fn never_ours() -> Advice {
    visible::nothing_ours("every alert met so far is")
}
