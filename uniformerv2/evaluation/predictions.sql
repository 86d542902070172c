-- What a model says of the clips of $view. One row per clip that could be read. Key, order: clip_id.
select
    $view as view,
    clip_id,
    label::smallint as label,  -- row of K710, as all classes here
    top5::smallint[] as top5,  -- the likeliest first
    score5::float[] as score5,  -- sums of probabilities over the views of the clip
    $views::smallint as views,  -- times x crops
from scored
order by clip_id
