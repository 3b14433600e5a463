//! Verbs to their end: what a person reads, what a machine reads, and the exit
//! code.

use std::process::Stdio;

use crate::crash::stage::{Kept, Stage, within};

async fn quiet() -> Stage {
    let mut stage = Stage::set(Kept::Folder).await.unwrap();
    stage.settings.insert("FunctionConfigLoggingLevel".to_owned(), "5".to_owned());
    stage
}

/// As with `| head`: nobody reads any more.
#[tokio::test]
async fn a_reader_who_is_gone_is_no_fault_of_the_program() {
    let stage = quiet().await;
    stage.sign_in().await;
    let folder = stage.folder.to_str().unwrap();
    for verb in [&["status"][..], &["replay"], &["run", "--once", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let arguments = [verb, &["--state-dir", folder]].concat();
        let mut command = stage.command(&arguments);
        let process = command.stdout(Stdio::from(writer)).spawn().unwrap();
        let output = within("the end", process.wait_with_output()).await.unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{verb:?}");
    }
}
