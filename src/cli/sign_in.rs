//! `sign-in`: the code in the terminal; `sign-out`.

use std::process::ExitCode;

use secrecy::ExposeSecret as _;

use super::{Failure, Local, print};
use crate::app::App;
use crate::config::Vars;
use crate::domain::standing::Standing;
use crate::domain::timestamp::Timestamp;
use crate::http::retry::pause;
use crate::identity::{Code, IdentityError};

/// Prints the address and the code, waits, and says who signed in.
pub(super) async fn sign_in(vars: &Vars, local: &Local) -> Result<ExitCode, Failure> {
    let app = super::open(vars, local)?;
    let code = match app.identity.start("the command line").await {
        Ok(code) => code,
        Err(error) => return Ok(failed(&error)),
    };
    print::out(invitation(&code));
    let standing = tokio::select! {
        standing = wait(&app) => standing,
        stopped = tokio::signal::ctrl_c() => {
            stopped?;
            app.identity.cancel().await?;
            print::out("Cancelled; the code no longer works.");
            return Ok(ExitCode::from(1));
        }
    };
    Ok(match standing {
        Ok(standing) => settled(&standing),
        Err(error) => failed(&error),
    })
}

/// Polls as often as Entra allows until the code is used, refused or too old.
async fn wait(app: &App) -> Result<Standing, IdentityError> {
    loop {
        let standing = app.identity.poll().await?;
        let Some(then) = next_look(&standing) else { return Ok(standing) };
        pause(then.since(app.clock.now())).await;
    }
}

/// When it is worth while to look again: no later than the code's end, also
/// where Entra asked for a longer wait.
fn next_look(standing: &Standing) -> Option<Timestamp> {
    match standing {
        Standing::Pending { next_poll_at, expires_at, .. } => Some(*next_poll_at.min(expires_at)),
        Standing::SignedOut | Standing::SignedIn(_) | Standing::Refused { .. } => None,
    }
}

/// What the person sees. The code is shown to nobody else.
pub(super) fn invitation(code: &Code) -> String {
    format!(
        "To sign in, open\n\n    {}\n\non any device and enter the code\n\n    {}\n\n\
         with the account that may see only your trust's devices. The code is valid until {}.\n\
         Only enter it if you started this yourself just now; do not pass it on.\nWaiting (Ctrl-C cancels) ...",
        code.verification_uri,
        code.user_code.expose_secret(),
        code.expires_at.to_the_second(),
    )
}

fn settled(standing: &Standing) -> ExitCode {
    match standing {
        Standing::SignedIn(working) if working.failed_attempt.is_none() => {
            print::out(format_args!(
                "Signed in as {} in tenant {}.",
                working.account.username, working.account.tenant
            ));
            print::out(
                "The sign-in is kept sealed and renews itself; it ends after 90 days without a run.",
            );
            if let Some(before) = &working.replaced {
                print::out(format_args!(
                    "Note: before, {} was signed in. If this change was not meant, sign in again with the right account.",
                    before.username
                ));
            }
            ExitCode::SUCCESS
        }
        Standing::SignedIn(working) => {
            if let Some(advice) = &working.failed_attempt {
                print::err(format_args!(
                    "Not signed in anew: {}\nNext step: {}",
                    advice.message, advice.next_step
                ));
                print::err(format_args!(
                    "The sign-in of {} from before still works.",
                    working.account.username
                ));
            }
            ExitCode::from(1)
        }
        Standing::Refused { advice, .. } => {
            print::err(format_args!(
                "Not signed in: {}\nNext step: {}",
                advice.message, advice.next_step
            ));
            ExitCode::from(1)
        }
        Standing::SignedOut | Standing::Pending { .. } => {
            print::err("Not signed in: the sign-in was cancelled elsewhere. Run `sign-in` again.");
            ExitCode::from(1)
        }
    }
}

fn failed(error: &IdentityError) -> ExitCode {
    let advice = error.advice();
    print::err(format_args!("{}\nNext step: {}", advice.message, advice.next_step));
    ExitCode::from(1)
}

/// Forgets the sign-in.
pub(super) async fn sign_out(vars: &Vars, local: &Local) -> Result<ExitCode, Failure> {
    let app = super::open(vars, local)?;
    if let Err(error) = app.identity.sign_out().await {
        return Ok(failed(&error));
    }
    print::out(
        "Signed out: the stored sign-in is forgotten, and no alerts are read until somebody signs in.",
    );
    print::out(
        "To end it at Microsoft too, revoke the account's sessions at https://mysignins.microsoft.com.",
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_waits_past_the_end_of_a_code() {
        let (soon, late) = (Timestamp::EPOCH, Timestamp::EPOCH + Duration::from_secs(1));
        let waiting = |next_poll_at, expires_at| Standing::Pending {
            expires_at,
            next_poll_at,
            started_by: "the command line".to_owned(),
            meanwhile: None,
        };
        assert_eq!(next_look(&waiting(soon, late)), Some(soon));
        assert_eq!(next_look(&waiting(late, soon)), Some(soon));
        assert_eq!(next_look(&Standing::SignedOut), None);
    }
}
