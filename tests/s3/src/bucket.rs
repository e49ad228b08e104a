//! What s3s-fs leaves out and every cloud does: saying that a bucket does not exist.

use std::path::PathBuf;

use s3s::access::{S3Access, S3AccessContext};
use s3s::path::S3Path;
use s3s::{S3Result, s3_error};

/// Refuses what is not signed, and whatever concerns a bucket that is not there: s3s-fs
/// itself answers `NoSuchKey`, or even stores the object.
pub(crate) struct BucketMustExist {
    pub(crate) root: PathBuf,
}

#[async_trait::async_trait]
impl S3Access for BucketMustExist {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        if request.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        }
        let bucket = match request.s3_path() {
            S3Path::Root => return Ok(()),
            S3Path::Bucket { bucket } | S3Path::Object { bucket, .. } => bucket,
        };
        let creates = request.s3_op().name() == "CreateBucket";
        if creates || self.root.join(&**bucket).is_dir() {
            Ok(())
        } else {
            Err(s3_error!(
                NoSuchBucket,
                "The specified bucket does not exist"
            ))
        }
    }
}
