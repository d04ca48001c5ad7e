"""The papers whose statements are tested, as the page cites them under the title of a section."""

ARORA = "Arora, Cohen, Hu & Luo, “Implicit Regularization in Deep Matrix Factorization”, NeurIPS 2019"
RAZIN = (
    "Razin & Cohen, “Implicit Regularization in Deep Learning May Not Be Explainable by Norms”, NeurIPS 2020"
)
LI = (
    "Li, Luo & Lyu, “Towards Resolving the Implicit Bias of Gradient Descent for Matrix Factorization: "
    "Greedy Low-Rank Learning”, ICLR 2021"
)
GUNASEKAR = (
    "Gunasekar, Woodworth, Bhojanapalli, Neyshabur & Srebro, “Implicit Regularization in Matrix "
    f"Factorization”, NeurIPS 2017; {ARORA}"
)
BAI = (
    "Bai, Zhao & Zhang, “Connectivity Shapes Implicit Regularization in Matrix Factorization Models for "
    "Matrix Completion”, NeurIPS 2024"
)
CHOU = (
    "Chou, Gieshoff, Maly & Rauhut, “Gradient Descent for Deep Matrix Factorization: Dynamics and Implicit "
    "Bias towards Low Rank”, Applied and Computational Harmonic Analysis 68, 2024"
)
JIN = (
    "Jin, Li, Lyu, Du & Lee, “Understanding Incremental Learning of Gradient Descent: A Fine-grained "
    "Analysis of Matrix Sensing”, ICML 2023"
)
ZHAO = (
    "Zhao, “Combining Explicit and Implicit Regularization for Efficient Learning in Deep Networks”, "
    "NeurIPS 2022"
)
COMPRESSED = (
    "Kwon et al., “Efficient Compression of Overparameterized Deep Models through Low-Dimensional Learning "
    "Dynamics”, AISTATS 2024; Yaras, Wang, Balzano & Qu, “Compressible Dynamics in Deep Overparameterized "
    "Low-Rank Learning & Adaptation”, ICML 2024"
)
PICTURES = (
    "Li, Xu, Luo & Wang, “A regularized deep matrix factorized model of matrix completion for image "
    "restoration”, 2020, for the first statement"
)
OWN = "an addition of this project"
