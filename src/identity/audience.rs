//! What tokens are made for, and by which permission.

/// What Defender's tokens are made for, whatever host is called: a token made
/// for the host itself is answered 403
/// (<https://learn.microsoft.com/defender-endpoint/api/exposed-apis-create-app-nativeapp>).
pub const DEFENDER_AUDIENCE: &str = "https://api.securitycenter.microsoft.com";

/// What Microsoft Graph's tokens are made for.
pub const GRAPH_AUDIENCE: &str = "https://graph.microsoft.com";

/// The scope to ask for, one resource in one token. Of Graph, which has
/// thousands of permissions, exactly the one that is needed: if it was not
/// consented to, Entra says so, and not only Graph's 403.
/// <https://learn.microsoft.com/entra/identity-platform/scopes-oidc>
pub(super) fn scope(audience: &str) -> String {
    let scope = if audience == GRAPH_AUDIENCE { "SecurityAlert.Read.All" } else { ".default" };
    format!("{audience}/{scope}")
}

/// The permission alerts are read with, as Entra's pages show it.
pub(super) fn permission(audience: &str) -> &'static str {
    if audience == GRAPH_AUDIENCE {
        "Microsoft Graph / SecurityAlert.Read.All"
    } else {
        "WindowsDefenderATP / Alert.Read"
    }
}
