-- What the manifest says of the clips that one part of a run makes: those of `plan`. One row per view and clip.
-- Key: (view, clip_id). Order: none.
select manifest.*,
from manifest
semi join plan using (clip_id)
