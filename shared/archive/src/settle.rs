//! The end of a claim on disk: deleting what is proven, setting aside what is not the same.

use walferry_catalog::{
    CatalogError,
    claims::{Claim, ReleaseAs},
    completion::{self, Archived},
};

use crate::{
    archiver::{Archiver, Served},
    leases::Lease,
    local,
    process::{Ended, ProcessError},
};
use walferry_killpoint::kill_point;

impl Archiver {
    /// Deletes the local files that `archived` proves, and ends the claim.
    pub(crate) async fn delete_local(
        &self,
        claim: &Claim,
        lease: &Lease,
        archived: &Archived,
        here: &[local::Here],
        hashed: Option<&local::Here>,
    ) -> Result<(), ProcessError> {
        let deleted = local::delete_all(self, claim, lease, archived, here, hashed).await?;
        let mut conn = self.0.catalog.get().await?;
        lease.settle(true);
        kill_point!("archive.unlinked.before");
        completion::local_deleted(&mut conn, archived, &deleted).await?;
        kill_point!("archive.unlinked.after");
        Ok(())
    }

    /// VERIFIED long ago, and the file lies here (again): the same content goes, another stays.
    pub(crate) async fn compare_again(
        &self,
        cluster: &Served,
        claim: &Claim,
        lease: &Lease,
        here: &[local::Here],
    ) -> Result<Ended, ProcessError> {
        let Some(file) = here.first() else {
            return self.release(claim, lease, ReleaseAs::Nothing).await;
        };
        let found = local::hash(self, claim, file, lease.cancelled()).await?;
        kill_point!("archive-again.prove.before");
        let mut conn = self.0.catalog.get().await?;
        match completion::prove_archived(&mut conn, claim.token, found, self.enough(cluster)).await
        {
            Ok(Some(archived)) => {
                drop(conn);
                kill_point!("archive-again.prove.after");
                self.delete_local(claim, lease, &archived, here, Some(file))
                    .await?;
                Ok(Ended::Archived { stored: 0 })
            }
            Ok(None) => {
                drop(conn);
                self.release(claim, lease, ReleaseAs::Nothing).await
            }
            Err(error @ CatalogError::Conflict { .. }) => {
                drop(conn);
                self.quarantine_local(claim, lease, file, &error).await?;
                Ok(Ended::Released)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn quarantine_local(
        &self,
        claim: &Claim,
        lease: &Lease,
        file: &local::Here,
        error: &CatalogError,
    ) -> Result<(), ProcessError> {
        self.note_other_content(claim, file, error).await?;
        let mut conn = self.0.catalog.get().await?;
        lease.settle(true);
        kill_point!("other-content.commit.before");
        completion::quarantine_local(
            &mut conn,
            claim.token,
            file.directory,
            "other-content",
            &error.to_string(),
        )
        .await?;
        kill_point!("other-content.commit.after");
        Ok(())
    }

    /// Two files of one name and different content are a critical finding that names both.
    pub(crate) async fn note_other_content(
        &self,
        claim: &Claim,
        file: &local::Here,
        error: &CatalogError,
    ) -> Result<(), ProcessError> {
        tracing::error!(
            segment.name = %claim.file,
            directory.path = %file.path.display(),
            error = error as &dyn std::error::Error,
            "the file has another content than the archived one of that name; it stays where it is. \
             HINT: compare both, then `walferry quarantine move` puts the file aside"
        );
        self.critical(
            claim.prefix.cluster,
            "other-content",
            format!("`{}` in `{}`: {error}", claim.file, file.path.display()),
        )
        .await?;
        Ok(())
    }
}
