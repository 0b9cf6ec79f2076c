"""Which model families rules and thresholds are fitted on, and which they have not seen when they are scored."""

from __future__ import annotations

FIT_BASES = """mlp-relu-he-6 mlp-tanh-glorot-5 mlp-gelu-6 mlp-batchnorm-12 mlp-residual-16 cnn-bn cnn-lenet-tanh cnn-vgg
cnn-resnet cnn-groupnorm-silu gpt-pre-norm vit encoder-pre-norm rnn-gru-characters rnn-cell-loop autoencoder-mse
mlp-diabetes train-momentum transformers-bert-mlm transformers-llama""".split()
"""Healthy set-ups made by hand, all of families that the rules were tuned on, into which faults are injected too."""

TEST = """additive-model barlow-twins bilstm-tagger binary-weights capsules convmixer cross-network deep-sets dncnn
fourier-features gan gat gcn gmlp highway inception linear-attention masked-autoencoder matrix-factorization
message-passing mixture-density mlp-mixer multi-exit neural-ode normalizing-flow perceiver physics-informed prototypes
q-learning quantile-regression resmlp rotary-decoder seq2seq-attention shufflenet siamese skip-gram soft-tree
spatial-transformer state-space super-resolution tcn wavenet
beit bloom codegen convbert falcon fnet gemma gpt-neo mamba marian mobilenet-v2 modernbert olmo poolformer qwen3
roformer xlnet""".split()
"""Scored first in the first round; of the part `fit` since."""

HELD_OUT = """actor-critic autoregressive-masked densenet dilated-segmentation distillation ft-transformer hypernetwork
maxout min-gru pointnet radial-basis simsiam siren squeeze-excite text-cnn vq-vae
deit dinov2 gptj mistral mobilebert mpnet pegasus phi regnet squeezebert stablelm""".split()
"""Scored last in the first round; of the part `fit` since."""

MOVED = ["layer-norm-lstm"]
"""To the fit part in the first round, since a mistake there led to a change of a rule; see reports/accuracy."""

SECOND = """adapters alignment-free angular-margin attacked bayes-by-backprop compact-transformer complex-valued
coord-conv counts deep-operator denoising-score discrete-code distance-biased edge-splines equilibrium
factorization-machine feature-pyramid flow-matching fourier-operator gated-convolution gated-from-zero ghostnet
graph-isomorphism hourglass independent-recurrent kernel-autoencoder liquid-cell long-filter mixed-up normalizer-free
ordinal quasi-recurrent reservoir resnext retention rotation-equivariant slow-target soft-experts spiking squeezenet
survival tensor-train token-shift two-views variance-covariance wide-resnet window-language xception big-transfer
biogpt blenderbot convnext-v2 ernie focalnet gemma2 gpt-bigcode granite hubert levit mpt patch-series pvt-v2""".split()
"""Written for the second round, and scored once its rules stood; of the part `fit` since."""

THIRD = """absorbing-diffusion alexnet anomaly-autoencoder attention-unet axial-attention batch-ensemble
binary-convnet blitz-tutorial category-embeddings cellular-automaton conditional-gan conditional-vae conformer
contrastive-predictive crf-segmenter deep-ar delta-rule dense-detector differential-attention domain-adversarial
dueling-q edge-convolution efficientnet embedding-bag entity-triples evidential evidential-classes feature-extractor
fine-tuned fine-tuning gated-graph graph-autoencoder graph-sage grid-detector guided-diffusion hierarchical-attention
hinted-student initial-residual-graph kaggle-digits keras-convnet landmarks letter-rnn margin-ranking matrix-memory
mean-teacher megatron-bert memory-network mnist-example mobilenet-v3 multi-gate-experts mutual-learning n-beats
network-in-network neural-collaborative neural-process olmo2 openai-gpt packed-sentiment pairwise-ranking patch-mixer
periodic-numbers personalized-propagation phi3 pixel-cnn random-kernels rare-class raw-audio relation-network
relative-positions rembert repvgg rotation-pretext segformer segnet self-normalizing set-attention shape-codes siglip
sparse-experts stacked-forecast supervised-contrast support-vectors swin-v2 switch-transformers tabular-resnet
translation-transformer triplet-embedding two-towers wave-forecast weighed-tasks wide-and-deep word-language""".split()
"""Written for the third round, and scored once its rules stood; of the part `fit` since."""

FRESH = """captcha-ctc captcha-reader carvana-unet cats-and-dogs center-loss chebyshev-graph colorizer
conv-autoencoder date-reader decision-transformer directed-bonds equivariant-particles esm event-times folding-points
graphormer house-prices inpainting insurance-claims involution jigsaw momentum-contrast pendulum-dynamics
pointer-network resnet-nine row-attention series-transformer session-items sine-cells spectrogram-transformer spirals
starcoder2 stick-figures tabnet tied-denoiser titanic tone-spectrogram topic-transformer tree-lstm trigger-word
vae-example""".split()
"""Written for the fourth round, and scored once its rules stood."""

ROUNDS = {"fit": FIT_BASES, "test": TEST, "held-out": HELD_OUT, "second": SECOND, "third": THIRD, "fresh": FRESH}
"""Into which families faults were drawn together."""

PARTS = ("fit", "fresh")


def part_of(family: str) -> str:
    """fit or fresh."""
    return "fresh" if family in FRESH else "fit"
