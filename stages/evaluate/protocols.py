"""The protocol of every data set.

A new data set of the usual kind, which is searched in both directions, costs one entry here.
"""

from stages.evaluate import sysu_mm01
from stages.evaluate.protocol import same_person_and_camera, two_way

# RegDB: all test images of one modality against all of the other, in both directions. Nothing is
# drawn. No pair is excluded, because each modality has one camera. CMC counts images.
# The published number is the mean of ten *trainings*, one for each split of the data set. So there
# is one gallery here, and `data.trial` picks the split.
REGDB = two_way("regdb", unique_ids=False, draws=1, excluded=None)

# LLCM: all test images of one modality against a drawn gallery of the other, in both directions.
# Of each identity and camera one gallery image is drawn, as by AGW for SYSU-MM01. The score is the
# mean over ten draws. Gallery images of the query's identity *and* camera are excluded (both
# modalities share the cameras' numbers). CMC counts identities.
# The authors revised the data set after publication: compare with the table in their README, not
# with the paper's. Their released test script exchanges the roles for `visible_to_infrared` and
# ranks all visible images for the drawn infrared ones; here both directions follow the rule above.
LLCM = two_way("llcm", unique_ids=True, draws=10, excluded=same_person_and_camera)

# Your own images: all test images of one modality against all of the other, in both directions.
# Nothing is drawn. Gallery images of the query's identity *and* camera are excluded: a camera that
# records both modalities would find the same moment again. CMC counts images.
FOLDER = two_way("folder", unique_ids=False, draws=1, excluded=same_person_and_camera)

PROTOCOLS = {
    "sysu_mm01": sysu_mm01.PROTOCOL,
    "regdb": REGDB,
    "llcm": LLCM,
    "folder": FOLDER,
}
